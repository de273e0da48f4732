"""Stores on their way from one embedder's vectors to another's.

The new windows lie beside the old ones, which go on answering; one transaction makes the new ones the store's. Files
that are read meanwhile bring windows of the new embedder only: they are found by their words until then.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, or_, select, tuple_, update

from retrieval import tables
from retrieval.chunk_rows import add_windows
from retrieval.errors import StoreNotFound
from retrieval.generations import raise_generation, slices
from retrieval.ports import Store
from retrieval.superseded import clear_superseded

LEASE_SECONDS = 60.0

_columns = tables.reembeddings.c
_chunks = tables.chunks.c
_windows = tables.windows.c
_stores = tables.stores.c


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembeddingJob:
    """A store that somebody is embedding anew."""

    store_id: str
    fingerprint: str  # of the new embedder
    holder: str
    chunks_total: int  # of the store, when it was claimed
    chunks_done: int  # of those, that had the new windows already


class Lacking(NamedTuple):
    """A chunk without windows of the new embedder."""

    chunk_id: int
    number: int  # of its attachment
    generation: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a store is."""

    store_id: str
    fingerprint: str
    created_at: float  # Unix seconds
    chunks_done: int
    chunks_total: int


class Reembeddings:
    """The table of stores that are embedded anew."""

    def __init__(
        self,
        database: Store,
        *,
        clock: Callable[[], float] = time.time,
        on_write: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """on_write: called inside every transaction that begins or ends one."""
        self._database = database
        self._clock = clock
        self._on_write = on_write

    def needed(self, fingerprint: str) -> list[str]:
        """Stores with other embedders' vectors beside or instead of this one's, that are not asked for already."""
        stores = select(_stores.id).where(~_stores.deleted, ~_stores.expired)
        others = [
            select(_windows.id).where(_windows.store_id == _stores.id, other).exists()
            for other in (_windows.fingerprint < fingerprint, _windows.fingerprint > fingerprint)  # both by the index
        ]
        lacking = select(_chunks.id).where(_chunks.store_id == _stores.id, _lacks(fingerprint)).exists()
        unlike = or_(_stores.fingerprint != fingerprint, lacking)
        asked = select(_columns.store_id).where(_columns.store_id == _stores.id, _columns.fingerprint == fingerprint)
        with self._database.read() as connection:
            return list(connection.execute(stores.where(or_(*others), unlike, ~asked.exists())).scalars())

    def request(self, store_id: str, fingerprint: str) -> None:
        """Have a store embedded anew; the same again changes nothing, another embedder starts over. StoreNotFound."""
        with self._database.write() as connection:
            there = select(_stores.id).where(_stores.id == store_id, ~_stores.deleted, ~_stores.expired)
            if connection.execute(there.with_for_update()).first() is None:
                raise StoreNotFound(f"no vector store has the id {store_id[:96]!r}")
            same = select(_columns.store_id).where(_columns.store_id == store_id, _columns.fingerprint == fingerprint)
            if connection.execute(same).first() is not None:
                return
            connection.execute(delete(tables.reembeddings).where(_columns.store_id == store_id))
            total = connection.execute(_count(store_id)).scalar_one()
            row = {"store_id": store_id, "fingerprint": fingerprint, "created_at": self._clock()}
            connection.execute(insert(tables.reembeddings).values(**row, chunks_done=0, chunks_total=total))
            self._on_write(connection)

    def claim(self, holder: str, fingerprint: str, *, lease_seconds: float = LEASE_SECONDS) -> ReembeddingJob | None:
        """The store that has waited longest for this embedder, for this holder alone; None when there is none."""
        now = self._clock()
        free = or_(_columns.lease_until.is_(None), _columns.lease_until <= now)
        due = select(_columns.store_id).where(_columns.fingerprint == fingerprint, free).order_by(_columns.created_at)
        with self._database.read() as connection:
            store_id = connection.execute(due.limit(1)).scalar()
            if store_id is None:
                return None
            total = connection.execute(_count(store_id)).scalar_one()
            lacking = connection.execute(_count(store_id).where(_lacks(fingerprint))).scalar_one()
        done = {"chunks_done": total - lacking, "chunks_total": total}
        ours = {"lease_holder": holder, "lease_until": now + lease_seconds}
        with self._database.write() as connection:
            mine = (_columns.store_id == store_id, _columns.fingerprint == fingerprint, free)
            if connection.execute(update(tables.reembeddings).where(*mine).values(**ours, **done)).rowcount == 0:
                return None
        return ReembeddingJob(store_id=store_id, fingerprint=fingerprint, holder=holder, **done)

    def release(self, holder: str) -> int:
        """Give back what this holder has, because it ends or has died; returns how many."""
        held = _columns.lease_holder == holder
        with self._database.write() as connection:
            freed = update(tables.reembeddings).where(held).values(lease_holder=None, lease_until=None)
            return connection.execute(freed).rowcount

    def lacking(self, job: ReembeddingJob, most: int, *, after: Lacking | None = None) -> list[Lacking]:
        """The next chunks that have no windows of the new embedder; the last of these is where to go on."""
        query = select(_chunks.id, _chunks.number, _chunks.generation, _chunks.text)
        query = query.where(_chunks.store_id == job.store_id, _lacks(job.fingerprint))
        if after is not None:
            query = query.where(tuple_(_chunks.generation, _chunks.id) > (after.generation, after.chunk_id))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_chunks.generation, _chunks.id).limit(most))
            return [Lacking._make(row) for row in rows]

    def add(
        self, job: ReembeddingJob, digests: Mapping[int, Sequence[str]], *, lease_seconds: float = LEASE_SECONDS
    ) -> bool:
        """Give chunks their new windows, by the SHA-256 of what was embedded, and keep the claim.

        Chunks that are gone are passed over. False: stop, the store is not this job's any more. Raises RetrievalError
        when a vector is not there.
        """
        values: dict[str, Any] = {
            "lease_until": self._clock() + lease_seconds,
            "chunks_done": _columns.chunks_done + len(digests),
        }
        with self._database.write() as connection:
            if connection.execute(update(tables.reembeddings).where(*_ours(job)).values(**values)).rowcount == 0:
                return False
            generation = connection.execute(select(_stores.generation).where(_stores.id == job.store_id)).scalar_one()
            by_number: dict[int, dict[int, Sequence[str]]] = defaultdict(dict)
            for some in slices(list(digests)):
                query = select(_chunks.id, _chunks.number).where(_chunks.id.in_(some), _lacks(job.fingerprint))
                query = query.where(_chunks.store_id == job.store_id).with_for_update(read=True, key_share=True)
                for chunk_id, number in connection.execute(query):
                    by_number[number][chunk_id] = digests[chunk_id]
            add_windows(connection, job.store_id, generation, by_number, job.fingerprint)
            return True

    def finish(self, job: ReembeddingJob) -> bool:
        """Make the new windows the store's; then the old ones go.

        False, and nothing changed: a chunk lacks its windows still, or the store is not this job's any more.
        """
        try:
            with self._database.write() as connection:
                self._switch(connection, job)
        except _NotYet:
            return False
        clear_superseded(self._database, job.store_id)
        return True

    def progress(self, store_id: str) -> Progress | None:
        """How far a store is; None when it is not being embedded anew."""
        with self._database.read() as connection:
            return next(iter(_read(connection, _columns.store_id == store_id)), None)

    def all(self) -> list[Progress]:
        """Every store that is being embedded anew or waits for it, the oldest request first."""
        with self._database.read() as connection:
            return _read(connection)

    def _switch(self, connection: Connection, job: ReembeddingJob) -> None:
        generation = raise_generation(connection, job.store_id)
        ended = connection.execute(delete(tables.reembeddings).where(*_ours(job))).rowcount
        left = select(_chunks.id).where(_chunks.store_id == job.store_id, _lacks(job.fingerprint)).limit(1)
        if generation is None or not ended or connection.execute(left).first() is not None:
            raise _NotYet
        switched = {"fingerprint": job.fingerprint, "oldest_generation": generation}
        connection.execute(update(tables.stores).where(_stores.id == job.store_id).values(**switched))
        self._on_write(connection)


class _NotYet(Exception):
    """The switch is undone."""


def _ours(job: ReembeddingJob) -> tuple[ColumnElement[bool], ...]:
    return (
        _columns.store_id == job.store_id,
        _columns.fingerprint == job.fingerprint,
        _columns.lease_holder == job.holder,
    )


def _lacks(fingerprint: str) -> ColumnElement[bool]:
    return ~select(_windows.id).where(_windows.chunk_id == _chunks.id, _windows.fingerprint == fingerprint).exists()


def _count(store_id: str) -> Select[int]:
    return select(func.count()).select_from(tables.chunks).where(_chunks.store_id == store_id)


def _read(connection: Connection, *conditions: ColumnElement[bool]) -> list[Progress]:
    shown = [_columns[name] for name in ("store_id", "fingerprint", "created_at", "chunks_done", "chunks_total")]
    rows = connection.execute(select(*shown).where(*conditions).order_by(_columns.created_at)).mappings()
    return [Progress(**row) for row in rows]
