"""The registry's two tables: a name and where it points, and the immutable versions under it.

They hold on SQLite and on PostgreSQL; the migrations of the server's storage are made from this metadata.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

adapters = Table(
    "adapters",
    metadata,
    Column("name", String(96), primary_key=True),
    Column("base_fingerprint", String(64), nullable=False),
    Column("base_name", Text, nullable=False),
    Column("created_at", Double, nullable=False),  # unix seconds
    Column("pinned", Boolean, nullable=False),
    Column("traffic", JSON, nullable=False),  # [[digest, weight], …], oldest version first; empty until ready
    Column("previous", JSON(none_as_null=True)),  # the traffic before the last move
    Column("status", String(16), nullable=False),  # staging | ready | failed
    Column("error", Text),
    Column("source", Text, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    # vLLM's lora_int_id: an id that was once given out must never mean other weights, so none is used twice
    Column("lora_id", Integer, primary_key=True, autoincrement=True),
    Column("adapter", String(96), ForeignKey("adapters.name", ondelete="CASCADE"), nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("rank", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", Double, nullable=False),  # unix seconds
    Column("error", Text),  # set when the files were found missing
    Column("details", JSON, nullable=False),
    UniqueConstraint("adapter", "digest"),
    sqlite_autoincrement=True,
)
