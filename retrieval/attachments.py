"""Files in stores, one by one and in batches.

What is attached waits in the queue (`retrieval.queue`) until the ingestion process has read it; only then a search
sees it. Every attachment has a number of its own: a file that is taken out and attached again is another one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, insert, select, update

from retrieval import fields, tables
from retrieval.attaching import BATCH_FILES, Entry, distinct, put_in
from retrieval.errors import BatchNotFound, StoreFileNotFound
from retrieval.generations import raise_generation, take_out
from retrieval.pages import Order, Page, Paging, rows_of
from retrieval.places import Places
from retrieval.ports import Store
from retrieval.store_files import counts_of_batch, store_file, store_files
from retrieval.stores import not_found
from retrieval.vector_store import Attributes, Chunking, FileBatch, Status, StoreFile

__all__ = ["BATCH_FILES", "Attachments", "Entry"]

_columns = tables.attachments.c


class Attachments:
    """The table of files in stores. A store of another owner is the server's concern; a file's owner can be given."""

    def __init__(
        self,
        database: Store,
        *,
        clock: Callable[[], float] = time.time,
        on_write: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """on_write: called inside every transaction that changed something."""
        self._database = database
        self._clock = clock
        self._on_write = on_write
        self._places = Places()

    def attach(
        self,
        store_id: str,
        file_id: str,
        *,
        attributes: Attributes | None = None,
        chunking: Chunking | None = None,
        owner: str | None = None,
    ) -> StoreFile:
        """Put a file into a store, to be read. owner: whose file it must be; None takes anybody's.

        One that is there already stays, with the attributes given; it is read again when it had failed or was
        cancelled, or when it is to be split otherwise. Raises StoreNotFound, StoreExpired, FileNotFound, StoreInvalid.
        """
        entry = Entry(file_id=file_id, attributes=attributes, chunking=chunking)
        with self._database.write() as connection:
            put_in(connection, store_id, [entry], owner=owner, batch_id=None, now=self._clock())
            self._on_write(connection)
        return self.get(store_id, file_id)

    def attach_batch(self, store_id: str, entries: Sequence[Entry], *, owner: str | None = None) -> FileBatch:
        """Put 1 to 2,000 files into a store, all or none; see `attach`. A file belongs to the last batch that named it.

        Raises StoreNotFound, StoreExpired, FileNotFound, StoreInvalid.
        """
        entries = distinct(entries)
        batch_id = f"vsfb_{secrets.token_hex(12)}"
        with self._database.write() as connection:
            now = self._clock()
            put_in(connection, store_id, entries, owner=owner, batch_id=batch_id, now=now)
            row = {"id": batch_id, "store_id": store_id, "created_at": now, "cancelled": False}
            connection.execute(insert(tables.batches).values(**row))
            self._on_write(connection)
        return self.batch(store_id, batch_id)

    def get(self, store_id: str, file_id: str) -> StoreFile:
        """The file in the store. Raises StoreNotFound or StoreFileNotFound."""
        with self._database.read() as connection:
            return self._get(connection, store_id, file_id)

    def list(
        self,
        store_id: str,
        *,
        status: Status | None = None,
        batch_id: str | None = None,
        limit: int = 20,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> Page[StoreFile]:
        """A page of the store's files, by when they were attached; cursors are ids of files.

        Raises StoreNotFound, BatchNotFound, CursorUnknown.
        """
        query = store_files().where(_columns.store_id == store_id)
        if status is not None:
            query = query.where(_columns.status == status)
        if batch_id is not None:
            query = query.where(_columns.batch_id == batch_id)
        among = select(_columns.number).where(_columns.store_id == store_id)
        paging = Paging(limit=limit, order=order, after=after, before=before)
        with self._database.read() as connection:
            _check_store(connection, store_id)
            if batch_id is not None:
                self._batch(connection, store_id, batch_id)
            key = (_columns.number,)
            rows, has_more = rows_of(
                connection,
                query,
                key,
                among=among,
                identity=_columns.file_id,
                paging=paging,
                places=self._places,
                reader=store_id,
            )
        return Page(items=tuple(store_file(row._mapping) for row in rows), has_more=has_more)

    def set_attributes(self, store_id: str, file_id: str, attributes: Attributes | None) -> StoreFile:
        """Give a file other attributes, which filters see at once.

        Raises StoreNotFound, StoreFileNotFound or StoreInvalid.
        """
        given = fields.read_attributes(attributes)
        with self._database.write() as connection:
            generation = raise_generation(connection, store_id)
            number = self._get(connection, store_id, file_id).number
            values = {"attributes": given} | ({} if generation is None else {"generation": generation})
            connection.execute(update(tables.attachments).where(_columns.number == number).values(**values))
            self._on_write(connection)
            return self._get(connection, store_id, file_id)

    def detach(self, store_id: str, file_id: str) -> StoreFile:
        """Take a file out of a store; it stays a file. Raises StoreNotFound or StoreFileNotFound."""
        with self._database.write() as connection:
            _lock_store(connection, store_id)
            found = self._get(connection, store_id, file_id)
            take_out(connection, store_id, [found.number], self._clock())
            self._on_write(connection)
            return found

    def batch(self, store_id: str, batch_id: str) -> FileBatch:
        """The batch, with its files counted now. Raises StoreNotFound or BatchNotFound."""
        with self._database.read() as connection:
            _check_store(connection, store_id)
            return self._batch(connection, store_id, batch_id)

    def cancel_batch(self, store_id: str, batch_id: str) -> FileBatch:
        """Give up what of the batch was not read yet; the rest stays. Raises StoreNotFound or BatchNotFound."""
        with self._database.write() as connection:
            _check_store(connection, store_id)
            self._batch(connection, store_id, batch_id)
            waiting = (_columns.batch_id == batch_id, _columns.status == "in_progress")
            cancelled = {"status": "cancelled", "lease_holder": None, "lease_until": None}
            changed = connection.execute(update(tables.attachments).where(*waiting).values(**cancelled)).rowcount
            if changed:
                connection.execute(update(tables.batches).where(tables.batches.c.id == batch_id).values(cancelled=True))
            self._on_write(connection)
            return self._batch(connection, store_id, batch_id)

    def content(
        self, store_id: str, file_id: str, *, limit: int = 100, after: int | None = None
    ) -> Page[tuple[int, str]]:
        """The texts of a file's chunks in their order, with their positions; `after` is a position.

        Nothing until the file was read. Raises StoreNotFound or StoreFileNotFound.
        """
        chunks = tables.chunks.c
        with self._database.read() as connection:
            number = self._get(connection, store_id, file_id).number
            query = select(chunks.position, chunks.text).where(
                chunks.number == number, chunks.position > _before(after)
            )
            rows = connection.execute(query.order_by(chunks.position).limit(limit + 1)).all()
        return Page(items=tuple((row.position, row.text) for row in rows[:limit]), has_more=len(rows) > limit)

    def _get(self, connection: Connection, store_id: str, file_id: str) -> StoreFile:
        here = (_columns.store_id == store_id, _columns.file_id == file_id)
        there = (tables.stores.c.id == store_id, ~tables.stores.c.deleted)
        row = connection.execute(store_files().where(*here, select(1).where(*there).exists())).mappings().first()
        if row is not None:
            return store_file(row)
        _check_store(connection, store_id)
        raise StoreFileNotFound(f"vector store {store_id!r} has no file {file_id[:96]!r}")

    def _batch(self, connection: Connection, store_id: str, batch_id: str) -> FileBatch:
        here = (tables.batches.c.id == batch_id, tables.batches.c.store_id == store_id)
        row = connection.execute(select(tables.batches).where(*here)).mappings().first()
        if row is None:
            raise BatchNotFound(f"vector store {store_id!r} has no batch {batch_id[:96]!r}")
        return FileBatch(**row, file_counts=counts_of_batch(connection, batch_id))


def _check_store(connection: Connection, store_id: str) -> None:
    stores = tables.stores.c
    if connection.execute(select(stores.id).where(stores.id == store_id, ~stores.deleted)).first() is None:
        raise not_found(store_id)


def _lock_store(connection: Connection, store_id: str) -> None:
    stores = tables.stores.c
    query = select(stores.id).where(stores.id == store_id, ~stores.deleted).with_for_update()
    if connection.execute(query).first() is None:
        raise not_found(store_id)


def _before(position: int | None) -> int:
    return -1 if position is None else position
