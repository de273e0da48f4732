"""Vectors by the text that they were made of: whatever was embedded once is never embedded again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from retrieval import tables
from retrieval.errors import RetrievalError
from retrieval.generations import slices
from retrieval.ports import Store

STORED = np.dtype("<f4")  # the same on every machine
TOUCH_SECONDS = 3_600.0  # `touched_at` is right to the hour, so that asking is seldom writing
UNUSED_SECONDS = 86_400.0  # longer than any file takes from its first batch to its last

_columns = tables.vectors.c


class Vectors:
    """The table of vectors. Vectors of several embedders may be there; a fingerprint says whose."""

    def __init__(self, database: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def known(self, fingerprint: str, digests: Collection[str]) -> set[str]:
        """Which of these texts (by SHA-256) have a vector; those stay for a day at least."""
        wanted = sorted(set(digests))
        found: set[str] = set()
        stale: list[int] = []
        now = self._clock()
        with self._database.read() as connection:
            for some in slices(wanted):
                query = select(_columns.digest, _columns.id, _columns.touched_at)
                query = query.where(_columns.fingerprint == fingerprint, _columns.digest.in_(some))
                for digest, vector_id, touched_at in connection.execute(query):
                    found.add(digest)
                    if now - touched_at > TOUCH_SECONDS:
                        stale.append(vector_id)
        if not stale:
            return found
        with self._database.write() as connection:
            for ids in slices(sorted(stale)):
                _lock(connection, ids)
                connection.execute(update(tables.vectors).where(_columns.id.in_(ids)).values(touched_at=now))
        return self.known(fingerprint, wanted)  # again: they may have been purged in between

    def add(self, fingerprint: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep vectors of unit length by their texts' SHA-256, durably; those that are there already stay."""
        if not vectors:
            return
        now = self._clock()
        rows = [
            {
                "fingerprint": fingerprint,
                "digest": digest,
                "vector": np.ascontiguousarray(vector, STORED).tobytes(),
                "touched_at": now,
            }
            for digest, vector in sorted(vectors.items(), key=itemgetter(0))
        ]
        with self._database.write() as connection:
            upsert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            once = upsert(tables.vectors).on_conflict_do_nothing(index_elements=["fingerprint", "digest"])
            connection.execute(once, rows)

    def purge_unused(self) -> int:
        """Delete those that no chunk has and that nobody asked for within a day; returns how many."""
        before = self._clock() - UNUSED_SECONDS
        unused = ~select(tables.windows.c.id).where(tables.windows.c.vector_id == _columns.id).exists()
        old = select(_columns.id).where(_columns.touched_at < before, unused)
        with self._database.read() as connection:
            found = sorted(connection.execute(old).scalars())
        purged = 0
        for some in slices(found):
            with self._database.write() as connection:
                _lock(connection, some)
                gone = delete(tables.vectors).where(_columns.id.in_(some), _columns.touched_at < before, unused)
                purged += connection.execute(gone).rowcount
        return purged


def _lock(connection: Connection, ids: Sequence[int]) -> None:
    """Rows in one order, so that no two transactions wait for each other."""
    connection.execute(select(_columns.id).where(_columns.id.in_(ids)).order_by(_columns.id).with_for_update())


def vector_ids(connection: Connection, fingerprint: str, digests: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Each text's vector as (id, bytes), kept until the transaction ends. Raises RetrievalError when one is missing."""
    wanted = sorted(set(digests))
    found: dict[str, tuple[int, int]] = {}
    for some in slices(wanted):
        query = select(_columns.digest, _columns.id, func.length(_columns.vector))
        query = query.where(_columns.fingerprint == fingerprint, _columns.digest.in_(some))
        query = query.order_by(_columns.id).with_for_update(read=True, key_share=True)
        found |= {digest: (vector_id, n_bytes) for digest, vector_id, n_bytes in connection.execute(query)}
    missing = [digest for digest in wanted if digest not in found]
    if missing:
        raise RetrievalError(f"{len(missing)} vectors are not there any more, {missing[0]!r} first; embed them again")
    return found
