"""Which store an id or a name means, whose it is and which were used last: without counting what they hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import or_, select

from retrieval import tables
from retrieval.generations import reading, slices
from retrieval.ports import Store
from retrieval.vector_store import VectorStore

_columns = tables.stores.c


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreName:
    """A vector store by its names; all that rights are decided by."""

    id: str
    owner: str
    name: str
    expired: bool


Named = TypeVar("Named", StoreName, VectorStore)


class StoreNames:
    """Looks stores up; one indexed read each, so that every search can."""

    def __init__(self, database: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def find(self, id_or_name: str) -> list[StoreName]:
        """The store of that id, else all of that name, oldest first; of an owner's, expired ones only where all are."""
        return self.find_all([id_or_name])[id_or_name]

    def find_all(self, ids_or_names: Iterable[str]) -> dict[str, list[StoreName]]:
        """What `find` says of each, in one read and of one moment."""
        asked = list(dict.fromkeys(ids_or_names))
        there = self._named(asked)
        return {id_or_name: _meant(id_or_name, there) for id_or_name in asked}

    def last_used(self, limit: int) -> list[str]:
        """Ids of the stores that were searched or changed last."""
        there = (~_columns.deleted, ~_columns.expired)
        query = select(_columns.id).where(*there).order_by(_columns.last_active_at.desc()).limit(limit)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def living(self, store_ids: Sequence[str]) -> set[str]:
        """Those of them that are there and whose time is not over."""
        living = select(_columns.id).where(~_columns.deleted, ~_columns.expired)
        found: set[str] = set()
        with self._database.read() as connection:
            for some in slices(store_ids):
                found.update(connection.execute(living.where(_columns.id.in_(some))).scalars())
        return found

    def _named(self, asked: Sequence[str]) -> list[StoreName]:
        """Every store that has one of these for its id or name, oldest first; stores without a name are never meant."""
        over = or_(_columns.expired, _columns.expires_at <= self._clock()).label("over")
        query = select(_columns.id, _columns.owner, _columns.name, over, _columns.created_at).where(~_columns.deleted)
        rows: list[Any] = []
        named = [one for one in asked if one]
        with reading(self._database, named) as connection:
            for some in slices(named):
                rows += connection.execute(query.where(or_(_columns.id.in_(some), _columns.name.in_(some))))
        rows.sort(key=lambda row: (row.created_at, row.id))
        found = (StoreName(id=row.id, owner=row.owner, name=row.name, expired=bool(row.over)) for row in rows)
        return list(dict.fromkeys(found))  # one that two slices named, by its id and by its name


def _meant(id_or_name: str, there: Sequence[StoreName]) -> list[StoreName]:
    found = [store for store in there if store.id == id_or_name]
    found = found or [store for store in there if id_or_name and store.name == id_or_name]
    return without_replaced(found)


def without_replaced(found: Sequence[Named]) -> list[Named]:
    """Without the expired stores whose owner has a living one among them.

    An expired store leaves its name to its owner alone: whoever else calls a store like it is not meant any sooner.
    """
    alive = {store.owner for store in found if not store.expired}
    return [store for store in found if not store.expired or store.owner not in alive]
