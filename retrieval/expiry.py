"""The end of stores: texts go in small transactions, since those of a large store would hold up every writer."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Select, delete, exists, select, update

from retrieval import tables
from retrieval.generations import delete_chunks, delete_rows, raise_generation
from retrieval.ports import Store

ATTACHMENTS = 50  # removed in one transaction

_stores = tables.stores.c
_attachments = tables.attachments.c


def expire_stores(database: Store, now: float, on_write: Callable[[Connection], None]) -> int:
    """End the stores whose time is over; returns how many. Their files are listed on, what waited is cancelled."""
    due = select(_stores.id).where(_stores.expires_at <= now, ~_stores.expired, ~_stores.deleted)
    with database.read() as connection:
        found = list(connection.execute(due).scalars())
    ended = 0
    for store_id in found:
        with database.write() as connection:
            generation = raise_generation(connection, store_id)
            if generation is None or not connection.execute(due.where(_stores.id == store_id)).first():
                continue  # used meanwhile, which is seen with its row locked
            over = {"expired": True, "oldest_generation": generation, "fingerprint": None}
            connection.execute(update(tables.stores).where(_stores.id == store_id).values(**over))
            cancel_waiting(connection, store_id)
            used = (_attachments.store_id == store_id, _attachments.usage_bytes > 0)
            connection.execute(update(tables.attachments).where(*used).values(usage_bytes=0))
            connection.execute(delete(tables.reembeddings).where(tables.reembeddings.c.store_id == store_id))
            on_write(connection)
            ended += 1
    drop_expired_texts(database)
    return ended


def cancel_waiting(connection: Connection, store_id: str) -> None:
    """Take what was not read yet out of the queue."""
    waiting = (_attachments.store_id == store_id, _attachments.status == "in_progress")
    cancelled = {"status": "cancelled", "lease_holder": None, "lease_until": None}
    connection.execute(update(tables.attachments).where(*waiting).values(**cancelled))


def drop_expired_texts(database: Store) -> None:
    """What expired stores still have of texts: also what a killed process left of them."""
    chunks = tables.chunks.c
    left = select(_stores.id).where(_stores.expired, exists().where(chunks.store_id == _stores.id))
    with database.read() as connection:
        found = list(connection.execute(left).scalars())
    for store_id in found:
        some = select(chunks.number).where(chunks.store_id == store_id).distinct().limit(ATTACHMENTS)
        while _in_a_transaction(database, some, delete_chunks):
            pass
        with database.write() as connection:
            connection.execute(delete(tables.removals).where(tables.removals.c.store_id == store_id))


def drop_deleted(database: Store, store_id: str) -> None:
    """All rows of a store that is marked as deleted, its own last."""
    some = select(_attachments.number).where(_attachments.store_id == store_id).limit(ATTACHMENTS)
    while _in_a_transaction(database, some, delete_rows):
        pass
    with database.write() as connection:
        connection.execute(delete(tables.removals).where(tables.removals.c.store_id == store_id))
        connection.execute(delete(tables.stores).where(_stores.id == store_id, _stores.deleted))


def deleted_stores(database: Store) -> list[str]:
    """Those whose deletion was cut short."""
    with database.read() as connection:
        return list(connection.execute(select(_stores.id).where(_stores.deleted)).scalars())


def _in_a_transaction(database: Store, some: Select[int], remove: Callable[[Connection, list[int]], None]) -> int:
    with database.write() as connection:
        numbers = list(connection.execute(some).scalars())
        remove(connection, numbers)
    return len(numbers)
