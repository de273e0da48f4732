"""The tables of fine-tuning jobs, in the metadata of adapters: they hold on SQLite and on PostgreSQL."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, ForeignKey, Integer, String, Table, Text

from adapters.tables import metadata

jobs = Table(
    "training_jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(96), nullable=False, index=True),
    Column("status", String(24), nullable=False, index=True),
    Column("created_at", Double, nullable=False),  # Unix seconds, as all times
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("estimated_finish", Double),
    Column("base_name", Text, nullable=False),
    Column("base_fingerprint", String(64), nullable=False),
    Column("model", Text, nullable=False),
    Column("parent", Text),
    Column("suffix", String(96), nullable=False),
    Column("method", JSON, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("publish", String(16), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("training", JSON, nullable=False),
    Column("validation", JSON(none_as_null=True)),
    Column("step", Integer, nullable=False, default=0),
    Column("n_steps", Integer),
    Column("trained_tokens", BigInteger),
    Column("version", Text),
    Column("result_file", String(64)),
    Column("error", JSON(none_as_null=True)),
    Column("facts", JSON, nullable=False),
    Column("wanted", String(16)),  # what its process shall do at the next step: pause | cancel
    Column("lease_holder", String(96)),
    Column("lease_until", Double),
    Column("starts", Integer, nullable=False, default=0),
)

events = Table(
    "training_events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job", String(64), ForeignKey("training_jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("level", String(8), nullable=False),
    Column("type", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    sqlite_autoincrement=True,
)

checkpoints = Table(
    "training_checkpoints",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job", String(64), ForeignKey("training_jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("step", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("metrics", JSON, nullable=False),
    sqlite_autoincrement=True,
)
