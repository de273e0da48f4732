"""Rows of files in stores, read: what a file in a store is, and how many of them stand where."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, select

from retrieval import tables
from retrieval.vector_store import Chunking, FileCounts, StoreFile

_attachments = tables.attachments.c
_OWN = (
    "number",
    "store_id",
    "file_id",
    "batch_id",
    "created_at",
    "status",
    "error_code",
    "error_message",
    "attributes",
    "chunking",
    "usage_bytes",
    "attempts",
    "starts",
    "chunks_done",
    "chunks_total",
)
_FILE = (tables.files.c.filename, tables.files.c.digest)


def store_files(*further: Any) -> Select[Any]:
    """Selects what `store_file` reads, and further columns."""
    own = [_attachments[name] for name in _OWN]
    return select(*own, *_FILE, *further).join_from(tables.attachments, tables.files)


def store_file(row: RowMapping) -> StoreFile:
    """A row of `store_files`."""
    names = (*_OWN, *(column.name for column in _FILE))
    return StoreFile(**{**{name: row[name] for name in names}, "chunking": Chunking.of(row["chunking"])})


def counts_of_batch(connection: Connection, batch_id: str) -> FileCounts:
    """A batch's files by status."""
    query = select(_attachments.status, func.count()).where(_attachments.batch_id == batch_id)
    return FileCounts(**{row[0]: row[1] for row in connection.execute(query.group_by(_attachments.status))})
