"""What an index follows: a store's state in one row, and everything that changed since a generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, select

from retrieval import tables
from retrieval.errors import StoreNotFound
from retrieval.generations import reading, slices
from retrieval.ports import Store
from retrieval.vector_store import Attributes
from retrieval.vectors import STORED

ROWS = 10_000  # vectors that are in memory twice while they are read

_stores = tables.stores.c
_STATE = tuple(
    _stores[name] for name in ("id", "generation", "oldest_generation", "fingerprint", "expired", "expires_at")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """What tells an index whether it is up to date."""

    generation: int
    oldest_generation: int  # an index older than this is built anew
    fingerprint: str | None  # the embedder of its vectors; None while it has none
    expired: bool


class ChunkText(NamedTuple):
    """A chunk as a lexical index takes it in; a tuple, since a hundred thousand are made at once."""

    chunk_id: int
    number: int  # of its attachment
    text: str
    language: str | None  # ISO 639-1


class FileState(NamedTuple):
    """A file of the store as filters see it."""

    number: int
    file_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Embedded windows, one a row: of which chunk and attachment."""

    ids: NDArray[np.int64]  # (n,)
    chunk_ids: NDArray[np.int64]  # (n,)
    numbers: NDArray[np.int64]  # (n,)
    generations: NDArray[np.int64]  # (n,), that made them visible
    vectors: NDArray[np.float32]  # (n, dimensions), of unit length; (n, 0) where they were not asked for or n is 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delta:
    """What changed in a store, or all of it."""

    full: bool  # everything is here, and what an index had goes
    generation: int  # that an index has when it has taken this in
    windows: Windows
    chunks: list[ChunkText]
    removed: NDArray[np.int64]  # numbers of attachments; applies before what is added
    files: list[FileState]  # that are new or have other attributes


class Changes:
    """Reads stores for indexes."""

    def __init__(self, database: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def state(self, store_id: str) -> StoreState | None:
        """The store's state now, or None when there is no such store; one row by its key."""
        return self.states([store_id]).get(store_id)

    def states(self, store_ids: Sequence[str]) -> dict[str, StoreState]:
        """Of those of the stores that there are, in one read and of one moment."""
        with reading(self._database, store_ids) as connection:
            return self._states(connection, store_ids)

    def since(
        self, store_id: str, generation: int, *, fingerprint: str | None, vectors: bool = True, texts: bool = True
    ) -> Delta:
        """What changed after a generation, all of one moment; everything for 0 or one that is too old.

        fingerprint: windows come only while the store's vectors are of this embedder. Raises StoreNotFound.
        """
        with self._database.read() as connection:
            state = self._states(connection, [store_id]).get(store_id)
            if state is None:
                raise StoreNotFound(f"no vector store has the id {store_id[:96]!r}")
            full = generation <= 0 or generation < state.oldest_generation or generation > state.generation
            after = -1 if full else generation
            if after == state.generation or state.expired:
                return Delta(full=full, generation=state.generation, **_nothing())
            ours = fingerprint is not None and fingerprint == state.fingerprint
            return Delta(
                full=full,
                generation=state.generation,
                windows=_windows(connection, store_id, after, fingerprint if ours else None, vectors),
                chunks=_chunks(connection, store_id, after) if texts else [],
                removed=_no_numbers() if full else _removed(connection, store_id, after),
                files=_files(connection, store_id, after),
            )

    def vectors_of(self, window_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The vectors of those of the windows that are still there: (their ids, ascending; shape (n, dimensions))."""
        wanted = np.sort(window_ids).tolist()
        columns = tables.windows.c
        query = select(columns.id, tables.vectors.c.vector).join_from(tables.windows, tables.vectors)
        ids: list[int] = []
        blobs: list[bytes] = []
        with self._database.read() as connection:
            for some in slices(wanted):
                for window_id, vector in connection.execute(query.where(columns.id.in_(some)).order_by(columns.id)):
                    ids.append(window_id)
                    blobs.append(vector)
        flat = np.frombuffer(b"".join(blobs), STORED).astype(np.float32, copy=False)
        return np.array(ids, np.int64), flat.reshape(len(ids), -1) if ids else np.empty((0, 0), np.float32)

    def _states(self, connection: Connection, store_ids: Sequence[str]) -> dict[str, StoreState]:
        found: dict[str, StoreState] = {}
        for some in slices(store_ids):
            for row in connection.execute(select(*_STATE).where(_stores.id.in_(some), ~_stores.deleted)):
                found[row.id] = StoreState(
                    generation=row.generation,
                    oldest_generation=row.oldest_generation,
                    fingerprint=row.fingerprint,
                    expired=row.expired or (row.expires_at is not None and row.expires_at <= self._clock()),
                )
        return found


def _windows(connection: Connection, store_id: str, after: int, fingerprint: str | None, vectors: bool) -> Windows:
    columns = tables.windows.c
    wanted = [columns.id, columns.chunk_id, columns.number, columns.generation]
    query: Select[Any] = select(*wanted)
    if vectors:
        query = select(*wanted, tables.vectors.c.vector).join_from(tables.windows, tables.vectors)
    query = query.where(columns.store_id == store_id, columns.fingerprint == fingerprint, columns.generation > after)
    pieces = [_no_windows()]
    if fingerprint is not None:
        for rows in connection.execute(query.execution_options(stream_results=True)).partitions(ROWS):
            ids, chunk_ids, numbers, generations, *blobs = zip(*rows, strict=True)
            flat = np.frombuffer(b"".join(blobs[0]), STORED) if vectors else np.empty(0, np.float32)
            read = flat.astype(np.float32, copy=False).reshape(len(rows), -1)
            pieces.append(
                Windows(
                    ids=np.array(ids, np.int64),
                    chunk_ids=np.array(chunk_ids, np.int64),
                    numbers=np.array(numbers, np.int64),
                    generations=np.array(generations, np.int64),
                    vectors=read,
                )
            )
    if len(pieces) == 1:
        return pieces[0]
    return Windows(
        ids=np.concatenate([piece.ids for piece in pieces]),
        chunk_ids=np.concatenate([piece.chunk_ids for piece in pieces]),
        numbers=np.concatenate([piece.numbers for piece in pieces]),
        generations=np.concatenate([piece.generations for piece in pieces]),
        vectors=np.concatenate([piece.vectors for piece in pieces[1:]]),
    )


def _chunks(connection: Connection, store_id: str, after: int) -> list[ChunkText]:
    columns = tables.chunks.c
    query = select(columns.id, columns.number, columns.text, columns.language)
    rows = connection.execute(query.where(columns.store_id == store_id, columns.generation > after))
    return [ChunkText._make(row) for row in rows]


def _removed(connection: Connection, store_id: str, after: int) -> NDArray[np.int64]:
    columns = tables.removals.c
    query = select(columns.number).where(columns.store_id == store_id, columns.generation > after)
    return np.array(connection.execute(query).scalars().all(), np.int64)


def _files(connection: Connection, store_id: str, after: int) -> list[FileState]:
    columns = tables.attachments.c
    query = select(columns.number, columns.file_id, columns.attributes, columns.status)
    # The status is no condition: SQLite would walk all completed files rather than those of the last generations.
    rows = connection.execute(query.where(columns.store_id == store_id, columns.generation > after))
    return [FileState(row.number, row.file_id, row.attributes) for row in rows if row.status == "completed"]


def _nothing() -> dict[str, Any]:
    return {"windows": _no_windows(), "chunks": [], "removed": _no_numbers(), "files": []}


def _no_windows() -> Windows:
    none = [_no_numbers() for _ in range(4)]
    return Windows(
        ids=none[0], chunk_ids=none[1], numbers=none[2], generations=none[3], vectors=np.empty((0, 0), np.float32)
    )


def _no_numbers() -> NDArray[np.int64]:
    return np.empty(0, np.int64)
