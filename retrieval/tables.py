"""The tables of files, vector stores, chunks and vectors.

A store's `generation` grows by one with every change that a search must see; rows carry the generation that made them
visible, so that an index knows what it lacks. An attachment (a file in a store) has a number of its own, given out
once: attaching the same file again is another attachment. Times are Unix seconds, UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Key = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only its INTEGER by itself

# the bytes of files, each once; the row is also what an upload and a removal of the same bytes take turns on
contents = Table(
    "file_contents",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256, and the blob's name
    Column("bytes", BigInteger, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(96), nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(64), ForeignKey("file_contents.digest"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, index=True),
    Column("complete", Boolean, nullable=False),  # false until its bytes are on the disk for good
    Index(None, "owner", "created_at", "id"),
    Index(None, "created_at", "id"),
)

stores = Table(
    "vector_stores",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(96), nullable=False),
    Column("name", Text, nullable=False, index=True),
    Column("description", Text),
    Column("metadata", JSON, nullable=False),
    Column("chunking", JSON, nullable=False),  # for files that name none
    Column("expires_days", Integer),
    Column("created_at", Double, nullable=False),
    Column("last_active_at", Double, nullable=False),
    Column("expires_at", Double, index=True),
    Column("expired", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),  # seen by nobody; its rows go little by little
    Column("generation", BigInteger, nullable=False),
    Column("oldest_generation", BigInteger, nullable=False),  # an index older than this is built anew
    Column("fingerprint", String(64)),  # the embedder that its visible vectors are from; None while it is empty
    Index(None, "owner", "created_at", "id"),
    Index(None, "created_at", "id"),
)

batches = Table(
    "file_batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("store_id", String(64), ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("cancelled", Boolean, nullable=False),
)

attachments = Table(
    "vector_store_files",
    metadata,
    Column("number", Key, primary_key=True, autoincrement=True),
    Column("store_id", String(64), ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
    Column("file_id", String(64), ForeignKey("files.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("batch_id", String(64)),
    Column("created_at", Double, nullable=False),
    Column("status", String(16), nullable=False),  # in_progress | completed | cancelled | failed
    Column("error_code", String(32)),
    Column("error_message", Text),
    Column("attributes", JSON, nullable=False),
    Column("chunking", JSON, nullable=False),
    Column("usage_bytes", BigInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),  # of the last change to it that a search must see
    # the queue's part: who works on it, until when, how far, and when to try again
    Column("lease_holder", String(96)),
    Column("lease_until", Double),
    Column("attempts", Integer, nullable=False),  # claims; tells one from the next
    Column("starts", Integer, nullable=False),  # how often it was begun since something of it became durable
    Column("due_at", Double, nullable=False),
    Column("chunks_done", Integer, nullable=False),
    Column("chunks_total", Integer, nullable=False),
    UniqueConstraint("store_id", "file_id"),
    Index(None, "store_id", "number"),  # pages
    Index(None, "store_id", "status", "usage_bytes"),  # counts
    Index(None, "batch_id", "status"),
    Index(None, "status", "due_at"),  # the queue
    Index(None, "store_id", "generation"),
    sqlite_autoincrement=True,
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("store_id", String(64), nullable=False),
    Column("number", Key, ForeignKey("vector_store_files.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("generation", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),  # within its file, from 0
    Column("text", Text, nullable=False),
    Column("page", Integer),
    Column("heading", JSON, nullable=False),  # the path of headings above it
    Column("start", Integer, nullable=False),  # characters of the file's text, as parsed
    Column("end", Integer, nullable=False),
    Column("language", String(8)),  # ISO 639-1
    Column("tokens", Integer, nullable=False),  # the embedder's
    Index(None, "store_id", "generation", "id"),
    sqlite_autoincrement=True,
)

vectors = Table(
    "vectors",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("fingerprint", String(64), nullable=False),  # the embedder's
    Column("digest", String(64), nullable=False),  # SHA-256 of the text that was embedded
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian, of unit length
    Column("touched_at", Double, nullable=False, index=True),  # when somebody last meant to use it, to the hour
    UniqueConstraint("fingerprint", "digest"),
    sqlite_autoincrement=True,
)

windows = Table(
    "windows",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("chunk_id", Key, ForeignKey("chunks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("number", Key, nullable=False),
    Column("store_id", String(64), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("vector_id", Key, ForeignKey("vectors.id"), nullable=False, index=True),
    Column("fingerprint", String(64), nullable=False),
    Index(None, "store_id", "fingerprint", "generation"),
    sqlite_autoincrement=True,
)

# attachments that are gone, so that an index takes them out without reading everything again
removals = Table(
    "removals",
    metadata,
    Column("number", Key, primary_key=True, autoincrement=False),
    Column("store_id", String(64), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("removed_at", Double, nullable=False, index=True),
    Index(None, "store_id", "generation"),
)

# stores whose chunks are being embedded by another model, in the background
reembeddings = Table(
    "reembeddings",
    metadata,
    Column("store_id", String(64), ForeignKey("vector_stores.id", ondelete="CASCADE"), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("lease_holder", String(96)),
    Column("lease_until", Double),
    Column("chunks_done", Integer, nullable=False),
    Column("chunks_total", Integer, nullable=False),
)
