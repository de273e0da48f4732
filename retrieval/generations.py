"""What every change of a store does inside its transaction: raise the generation, and take files out whole.

Rows are locked in one order, file, store, attachment, so that no two transactions wait for each other. On SQLite a
transaction that writes is alone anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, insert, select, update

from retrieval import tables
from retrieval.ports import Store

T = TypeVar("T")

SLICE = 500  # values in one IN: databases bound the parameters of a statement


def slices(values: Sequence[T], size: int = SLICE) -> Iterator[Sequence[T]]:
    """The values in pieces that one statement can take."""
    return (values[start : start + size] for start in range(0, len(values), size))


def reading(database: Store, values: Sequence[object]) -> AbstractContextManager[Connection]:
    """For a SELECT with these values in its IN, in as many `slices` as it takes: all of one moment."""
    return database.look() if len(values) <= SLICE else database.read()


def raise_generation(connection: Connection, store_id: str, **further: Any) -> int | None:
    """The store's next generation, and its row locked until the end; None when the store is gone or its time over."""
    columns = tables.stores.c
    raised = (
        update(tables.stores)
        .where(columns.id == store_id, ~columns.deleted, ~columns.expired)
        .values(generation=columns.generation + 1, **further)
        .returning(columns.generation)
    )
    return connection.execute(raised).scalar()


def take_out(connection: Connection, store_id: str, numbers: Sequence[int], now: float) -> None:
    """Remove attachments of one store with all that hangs on them, and tell the store's indexes."""
    # Before anything is read: what another has taken out or made visible meanwhile must be seen as it is then.
    connection.execute(select(tables.stores.c.id).where(tables.stores.c.id == store_id).with_for_update())
    columns = tables.attachments.c
    visible: list[int] = []
    for some in slices(numbers):
        found = connection.execute(select(columns.number, columns.status).where(columns.number.in_(some)))
        visible += [number for number, status in found if status == "completed"]
    generation = raise_generation(connection, store_id) if visible else None
    if generation is not None:
        rows = [
            {"number": number, "store_id": store_id, "generation": generation, "removed_at": now} for number in visible
        ]
        connection.execute(insert(tables.removals), rows)
    delete_rows(connection, numbers)


def take_file_out(connection: Connection, file_id: str, now: float) -> None:
    """The same for every store that a file is in; the file's row must be locked, so that no store gets it anew."""
    columns = tables.attachments.c
    here = select(columns.store_id, columns.number).where(columns.file_id == file_id)
    found = connection.execute(here.order_by(columns.store_id)).all()
    for store_id, rows in groupby(found, key=lambda row: row.store_id):
        take_out(connection, store_id, [row.number for row in rows], now)


def delete_rows(connection: Connection, numbers: Sequence[int]) -> None:
    """Attachments with their chunks and windows; vectors stay until nobody has wanted them for a while."""
    delete_chunks(connection, numbers)
    for some in slices(numbers):
        connection.execute(delete(tables.attachments).where(tables.attachments.c.number.in_(some)))


def delete_chunks(connection: Connection, numbers: Sequence[int]) -> None:
    """What was stored of the attachments' texts."""
    for some in slices(numbers):
        theirs = select(tables.chunks.c.id).where(tables.chunks.c.number.in_(some))
        connection.execute(delete(tables.windows).where(tables.windows.c.chunk_id.in_(theirs)))
        connection.execute(delete(tables.chunks).where(tables.chunks.c.number.in_(some)))
