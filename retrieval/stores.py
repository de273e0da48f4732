"""Vector stores: a row each, with what they hold counted from the rows of their files.

A store that is deleted is seen by nobody from that moment; a store whose time is over keeps its list of files, so that
its owner can make another like it, and loses the texts. The rows of both go little by little.
"""

from __future__ import annotations

import builtins
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from retrieval import fields, tables
from retrieval.errors import StoreExpired, StoreInvalid, StoreNotFound
from retrieval.expiry import cancel_waiting, drop_deleted, expire_stores
from retrieval.pages import Order, Page, Paging, rows_of
from retrieval.places import Places
from retrieval.ports import Store
from retrieval.store_names import without_replaced
from retrieval.vector_store import Chunking, FileCounts, VectorStore

DAY_SECONDS = 86_400
TOUCH_SECONDS = 60.0  # a search moves `last_active_at`, but is no reason to write each time

_columns = tables.stores.c
_UNSHOWN = ("deleted", "oldest_generation")


class Stores:
    """The table of vector stores, of all owners; who may see what is the server's part."""

    def __init__(
        self,
        database: Store,
        *,
        clock: Callable[[], float] = time.time,
        on_write: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """on_write: called inside every transaction that changed something but `last_active_at`."""
        self._database = database
        self._clock = clock
        self._on_write = on_write
        self._places = Places()

    def create(
        self,
        owner: str,
        *,
        name: str = "",
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
        chunking: Chunking = Chunking(),  # noqa: B008  # frozen
        expires_days: int | None = None,
    ) -> VectorStore:
        """A new and empty store. Raises StoreInvalid."""
        now = self._clock()
        if expires_days is not None:
            fields.check_days(expires_days)
        store_id = f"vs_{secrets.token_hex(12)}"
        row = {
            "id": store_id,
            "owner": owner,
            "name": fields.read_name(name),
            "description": fields.read_description(description),
            "metadata": fields.read_metadata(metadata),
            "chunking": fields.check_chunking(chunking).as_object(),
            "expires_days": expires_days,
            "created_at": now,
            "last_active_at": now,
            "expires_at": _expires_at(now, expires_days),
        }
        counters = {"expired": False, "deleted": False, "generation": 0, "oldest_generation": 0}
        with self._database.write() as connection:
            connection.execute(insert(tables.stores).values(**row, **counters))
            self._on_write(connection)
        return self.get(store_id)

    def get(self, store_id: str) -> VectorStore:
        """The store, also one that has expired. Raises StoreNotFound."""
        with self._database.read() as connection:
            return self._get(connection, store_id)

    def find(self, id_or_name: str) -> builtins.list[VectorStore]:
        """The store of that id, else all of that name, oldest first; of an owner's, expired ones only where all are."""
        with self._database.read() as connection:
            rows = self._rows(connection, _columns.id == id_or_name)
            if not rows and id_or_name:
                rows = self._rows(connection, _columns.name == id_or_name)
            found = self._shown(connection, rows)
        return without_replaced(found)

    def list(
        self,
        owner: str | None,
        *,
        limit: int = 20,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> Page[VectorStore]:
        """A page of the owner's stores, or of all for None, by when they were made. Raises CursorUnknown."""
        key = (_columns.created_at, _columns.id)
        seen = [~_columns.deleted] if owner is None else [~_columns.deleted, _columns.owner == owner]
        paging = Paging(limit=limit, order=order, after=after, before=before)
        with self._database.read() as connection:
            query, among = select(tables.stores).where(*seen), select(*key).where(*seen)
            rows, has_more = rows_of(
                connection,
                query,
                key,
                among=among,
                identity=_columns.id,
                paging=paging,
                places=self._places,
                reader=owner,
            )
            return Page(items=tuple(self._shown(connection, rows)), has_more=has_more)

    def update(self, store_id: str, *, changes: Mapping[str, Any]) -> VectorStore:
        """Change what is given of `name`, `description`, `metadata` and `expires_after`, in OpenAI's form.

        Null takes one back to none. Raises StoreNotFound, StoreInvalid, and StoreExpired for another end of a store
        whose time is over.
        """
        now = self._clock()
        values = _read_changes(changes)
        with self._database.write() as connection:
            store = self._get(connection, store_id, lock=True)
            if "expires_days" in values and store.expired:
                raise StoreExpired(f"vector store {store_id!r} has expired; make another from its files")
            days = values.get("expires_days", store.expires_days)
            if not store.expired:
                values |= {"last_active_at": now, "expires_at": _expires_at(now, days)}
            if values:
                connection.execute(update(tables.stores).where(_columns.id == store_id).values(**values))
                self._on_write(connection)
            return self._get(connection, store_id)

    def delete(self, store_id: str) -> VectorStore:
        """Remove a store and what it holds, but no file; returns what it was. Raises StoreNotFound."""
        with self._database.write() as connection:
            store = self._get(connection, store_id, lock=True)
            connection.execute(update(tables.stores).where(_columns.id == store_id).values(deleted=True))
            cancel_waiting(connection, store_id)
            connection.execute(delete(tables.reembeddings).where(tables.reembeddings.c.store_id == store_id))
            self._on_write(connection)
        drop_deleted(self._database, store_id)
        return store

    def touch(self, store_id: str) -> None:
        """Say that a store was searched: its end moves on. Writes at most once a minute; a store that is gone is none.

        Costs one read of a row when it does not write.
        """
        now = self._clock()
        used = select(_columns.last_active_at, _columns.expires_days).where(_columns.id == store_id)
        with self._database.read() as connection:
            row = connection.execute(used).first()
        if row is None or now - row.last_active_at < TOUCH_SECONDS:
            return
        with suppress(StoreNotFound, StoreExpired), self._database.write() as connection:
            activate(connection, store_id, now)

    def expire_due(self) -> int:
        """End the stores whose time is over; returns how many."""
        return expire_stores(self._database, self._clock(), self._on_write)

    def _get(self, connection: Connection, store_id: str, *, lock: bool = False) -> VectorStore:
        found = self._shown(connection, self._rows(connection, _columns.id == store_id, lock=lock))
        if not found:
            raise not_found(store_id)
        return found[0]

    def _rows(self, connection: Connection, condition: Any, *, lock: bool = False) -> Sequence[Row[Any]]:
        query = select(tables.stores).where(condition, ~_columns.deleted).order_by(_columns.created_at, _columns.id)
        return connection.execute(query.with_for_update() if lock else query).all()

    def _shown(self, connection: Connection, rows: Sequence[Row[Any]]) -> builtins.list[VectorStore]:
        held = _held(connection, [row.id for row in rows])
        now = self._clock()
        return [_store(row, *held[row.id], now) for row in rows]


def activate(connection: Connection, store_id: str, now: float) -> Row[Any]:
    """The store's row, locked, with its end moved on. Raises StoreNotFound or StoreExpired."""
    moved = {"last_active_at": now, "expires_at": now + DAY_SECONDS * _columns.expires_days}
    living = (_columns.id == store_id, ~_columns.deleted, ~_columns.expired)
    in_time = _columns.expires_at.is_(None) | (_columns.expires_at > now)
    changed = update(tables.stores).where(*living, in_time).values(**moved).returning(tables.stores)
    row = connection.execute(changed).first()
    if row is not None:
        return row
    there = select(_columns.id).where(_columns.id == store_id, ~_columns.deleted)
    if connection.execute(there).first() is None:
        raise not_found(store_id)
    raise StoreExpired(f"vector store {store_id!r} has expired; make another from its files")


def not_found(store_id: str) -> StoreNotFound:
    """For whoever asked for it."""
    return StoreNotFound(f"no vector store has the id {store_id[:96]!r}")


def _read_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    readers: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "name": ("name", fields.read_name),
        "description": ("description", fields.read_description),
        "metadata": ("metadata", fields.read_metadata),
        "expires_after": ("expires_days", fields.read_expires_after),
    }
    for name in changes:
        if name not in readers:
            raise StoreInvalid(f"{name[:64]!r} of a store cannot be changed; give {sorted(readers)}", param=name[:64])
    return {readers[name][0]: readers[name][1](value) for name, value in changes.items()}


def _held(connection: Connection, store_ids: Sequence[str]) -> dict[str, tuple[FileCounts, int]]:
    """Files by status and the bytes that they use, of several stores in one statement."""
    if not store_ids:
        return {}
    files = tables.attachments.c
    query = select(files.store_id, files.status, func.count(), func.sum(files.usage_bytes))
    query = query.where(files.store_id.in_(store_ids)).group_by(files.store_id, files.status)
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    used: dict[str, int] = defaultdict(int)
    for store_id, status, count, used_bytes in connection.execute(query):
        counts[store_id][status] = count
        used[store_id] += int(used_bytes)
    return {store_id: (FileCounts(**counts[store_id]), used[store_id]) for store_id in store_ids}


def _store(row: Row[Any], counts: FileCounts, usage_bytes: int, now: float) -> VectorStore:
    shown = {name: value for name, value in row._mapping.items() if name not in _UNSHOWN}
    shown["chunking"] = Chunking.of(row.chunking)
    shown["expired"] = row.expired or (row.expires_at is not None and row.expires_at <= now)
    return VectorStore(**shown, usage_bytes=usage_bytes, file_counts=counts)


def _expires_at(now: float, days: int | None) -> float | None:
    return None if days is None else now + DAY_SECONDS * days
