"""What nobody needs any more: what has expired, and what killed processes have left. Safe at any time.

swept = sweep(database, blobs)   # at the start, and every few minutes
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from retrieval import contents, tables
from retrieval.expiry import deleted_stores, drop_deleted
from retrieval.files import Files
from retrieval.ports import Blobs, Store
from retrieval.stores import Stores
from retrieval.superseded import clear_superseded, stores_with_superseded
from retrieval.vectors import Vectors

UPLOAD_SECONDS = 3_600.0  # an upload whose bytes were all there does not take that long to end
REMOVAL_SECONDS = 86_400.0  # an index that was not opened for so long is built anew

_files = tables.files.c
_removals = tables.removals.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How much of what was removed."""

    files: int  # expired
    stores: int  # expired
    uploads: int  # that were never ended
    contents: int  # bytes that no file has
    vectors: int  # that no chunk has
    removals: int  # that no index has to know any more


def sweep(
    database: Store,
    blobs: Blobs,
    *,
    clock: Callable[[], float] = time.time,
    on_write: Callable[[Connection], None] = lambda _: None,
) -> Swept:
    """End what is due and remove what is left over. on_write: called inside transactions that a reader may notice."""
    files = Files(database, blobs, max_bytes=0, clock=clock, on_write=on_write)
    expired_files = files.purge_expired()
    expired_stores = Stores(database, clock=clock, on_write=on_write).expire_due()
    for store_id in deleted_stores(database):
        drop_deleted(database, store_id)
    for store_id in stores_with_superseded(database):
        clear_superseded(database, store_id)
    uploads = _drop_unfinished(database, clock() - UPLOAD_SECONDS)
    return Swept(
        files=expired_files,
        stores=expired_stores,
        uploads=uploads,
        contents=sum(contents.drop_unused(database, blobs, digest) for digest in contents.unused(database, blobs)),
        vectors=Vectors(database, clock=clock).purge_unused(),
        removals=_drop_removals(database, clock() - REMOVAL_SECONDS),
    )


def _drop_unfinished(database: Store, before: float) -> int:
    old = (~_files.complete, _files.created_at < before)
    with database.write() as connection:
        return connection.execute(delete(tables.files).where(*old)).rowcount


def _drop_removals(database: Store, before: float) -> int:
    """An index from before the last of them cannot follow any more: its store says so."""
    old = _removals.removed_at < before
    with database.read() as connection:
        query = select(_removals.store_id, func.max(_removals.generation)).where(old).group_by(_removals.store_id)
        last = [(store_id, generation) for store_id, generation in connection.execute(query)]
    dropped = 0
    for store_id, generation in last:
        with database.write() as connection:
            stores = tables.stores.c
            older = (stores.id == store_id, stores.oldest_generation < generation)
            connection.execute(update(tables.stores).where(*older).values(oldest_generation=generation))
            gone = (_removals.store_id == store_id, _removals.generation <= generation)
            dropped += connection.execute(delete(tables.removals).where(*gone)).rowcount
    return dropped
