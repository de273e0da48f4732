"""Chunks with their files, as they are now: what a search found in an index is believed only when it is here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sqlalchemy import RowMapping, select

from retrieval import tables
from retrieval.generations import reading, slices
from retrieval.passage import Passage
from retrieval.ports import Store

_chunks = tables.chunks.c
_attachments = tables.attachments.c
_files = tables.files.c
_stores = tables.stores.c

_SHOWN = (
    _chunks.id.label("chunk_id"),
    _attachments.store_id,
    _attachments.file_id,
    _files.filename,
    _attachments.attributes,
    *(_chunks[name] for name in ("position", "text", "page", "heading", "start", "end", "language", "tokens")),
)
# What decides is selected and not a condition: SQLite would walk all completed files rather than look up these chunks.
_DECIDING = (
    _attachments.status,
    _stores.deleted,
    _stores.expired,
    _stores.expires_at.label("store_expires_at"),
    _files.expires_at.label("file_expires_at"),
)
_QUERY = (
    select(*_SHOWN, *_DECIDING)
    .join_from(tables.chunks, tables.attachments)
    .join(tables.files)
    .join(tables.stores, _stores.id == _attachments.store_id)
)


class Passages:
    """Reads chunks by id."""

    def __init__(self, database: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def load(self, chunk_ids: Iterable[int]) -> dict[int, Passage]:
        """Those of the chunks that are there now, in files and stores whose time is not over; all of one moment."""
        now = self._clock()
        found: dict[int, Passage] = {}
        wanted = [int(chunk_id) for chunk_id in chunk_ids]  # numpy's integers are no parameters
        with reading(self._database, wanted) as connection:
            for some in slices(wanted):
                for row in connection.execute(_QUERY.where(_chunks.id.in_(some))).mappings():
                    if _is_there(row, now):
                        found[row["chunk_id"]] = _passage(row)
        return found


def _is_there(row: RowMapping, now: float) -> bool:
    if row["status"] != "completed" or row["deleted"] or row["expired"]:
        return False
    ends = (row["store_expires_at"], row["file_expires_at"])
    return all(end is None or end > now for end in ends)


def _passage(row: RowMapping) -> Passage:
    return Passage(**{**{column.name: row[column.name] for column in _SHOWN}, "heading": tuple(row["heading"])})
