"""One store's vectors in a collection of Milvus, shared by all servers over one database: for more than a memory holds.

A server has the rows' names alone, 16 bytes each, and 8 for looking them up; what is removed it leaves out by
its own mask at once. In the collection a row is its window, whose number in the database never changes and is given
out once: so it does not matter in which order servers took rows in, several may write the same row, and what a server
does not know it skips.

    manyhats_1_vs_6f0c…_9b2e71c04a55d310_0019a1c2f3b40_5e8d21aa     format, store, embedder, when it was made, by whom

A collection says itself how far it is (`mark`), after what it says is there. Of two that servers made at the same
time the older name counts for both.

A mask of millions of rows cannot go over the wire with a question. So a filter that lets much through is applied here,
to more neighbours than were wanted; any other goes along as the list of groups (attachments), in or out, whichever is
shorter, and one that is too long for one question becomes several.
"""

from __future__ import annotations

import json
import os
import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.index.base import NOTHING, Found, Ids, Mask, Names, Vector, Vectors, best
from retrieval.index.damage import RowsMissing
from retrieval.index.milvus_service import MARK, MARKED_KEY, Milvus

FORMAT = 1  # raised whenever a collection means something else
MAX_HITS = 16_384  # that Milvus gives for one question
MOST_NEIGHBOURS = 4_096  # that are looked through here for those that a filter lets pass
SEARCH_WIDTH = 384  # as in the graphs of `faiss_index`
GROUPS = 10_000  # in one question
ROWS = 1_000  # vectors fetched at once
SURE_SECONDS = 30.0  # after which every node of a cluster has what was written before


class MilvusIndex:
    """Rows in a collection. Others may add to it; here are those rows that this index was told of."""

    is_far = True

    def __init__(self, milvus: Milvus, collection: str, dimensions: int) -> None:
        self.collection = collection
        self.dimensions = dimensions
        self._milvus = milvus
        none = np.zeros(0, dtype=np.int64)
        self._names = Names(none, none)
        self._order = none  # of the rows by key
        self._fresh_until = -np.inf
        self._last: tuple[Mask, Ids, Ids] | None = None  # a mask, with the groups in it and out of it

    def __len__(self) -> int:
        return len(self._names.keys)

    def add(self, vectors: Vectors, names: Names | None = None) -> None:
        """Append rows; nobody may search meanwhile. Without names a row is called by its number."""
        if names is None:
            numbers = np.arange(len(self), len(self) + len(vectors))
            names = Names(numbers, numbers)
        for start in range(0, len(vectors), ROWS):
            some = slice(start, start + ROWS)
            self._milvus.put(self.collection, Names(names.keys[some], names.groups[some]), vectors[some])
        self.hold(names)

    def hold(self, names: Names) -> None:
        """Append rows whose vectors are there already."""
        mine = self._names
        self._names = Names(np.concatenate([mine.keys, names.keys]), np.concatenate([mine.groups, names.groups]))
        self._order = np.argsort(self._names.keys, kind="stable")
        self._fresh_until = self._milvus.clock() + SURE_SECONDS
        self._last = None

    def search(self, query: Vector, k: int, allowed: Mask) -> Found | None:
        """The best allowed rows; None when Milvus did not give as many as there are."""
        n_allowed = int(np.count_nonzero(allowed))
        wanted = min(k, n_allowed)
        if not wanted:
            return NOTHING
        n_neighbours = int(2 * wanted * len(allowed) / n_allowed) + 16
        if n_neighbours <= MOST_NEIGHBOURS:
            found = self._nearest(query, n_neighbours, allowed)
            if len(found.ids) >= wanted:
                return Found(found.ids[:wanted], found.scores[:wanted])
        if wanted > MAX_HITS:
            return None
        asked = min(MAX_HITS, 2 * wanted + 16)
        pieces = [self._nearest(query, asked, allowed, condition) for condition in self._conditions(allowed)]
        ids = np.concatenate([piece.ids for piece in pieces])
        found = best(ids, np.concatenate([piece.scores for piece in pieces]), wanted)
        return found if len(found.ids) == wanted else None

    def cosines(self, query: Vector, rows: Ids) -> NDArray[np.float32]:
        """The exact cosine of each of these rows; raises RowsMissing where Milvus has not got one."""
        found = np.full(len(rows), np.nan, dtype=np.float32)
        for start in range(0, len(rows), ROWS):
            some = slice(start, start + ROWS)
            found[some] = self._cosines(query, rows[some])
        return found

    def vectors(self, rows: Ids) -> Vectors:
        """A copy of these rows; raises RowsMissing where Milvus has not got one."""
        pieces = [np.zeros((0, self.dimensions), dtype=np.float32)]
        for start in range(0, len(rows), ROWS):
            keys = self._names.keys[rows[start : start + ROWS]].tolist()
            there = self._vectors(keys)
            pieces.append(np.stack([there[key] for key in keys]))
        return np.concatenate(pieces)

    def copy(self) -> MilvusIndex:
        """Another index of the same rows and the same collection."""
        other = MilvusIndex(self._milvus, self.collection, self.dimensions)
        other._names, other._order, other._fresh_until = self._names, self._order, self._fresh_until
        return other

    def kept(self, rows: Ids) -> MilvusIndex:
        """Another index, of these rows alone; groups without any of them are removed for all."""
        kept = Names(self._names.keys[rows], self._names.groups[rows])
        dead = np.setdiff1d(self._names.groups, kept.groups)
        for start in range(0, len(dead), GROUPS):
            self._milvus.remove_groups(self.collection, dead[start : start + GROUPS])
        other = MilvusIndex(self._milvus, self.collection, self.dimensions)
        other.hold(kept)
        return other

    def mark(self, generation: int, key: int) -> None:
        """Tell all that every row is there up to this generation, and within it up to this key; never less than was."""
        if (generation, key) <= self.marked():
            return
        somewhere = np.zeros((2, self.dimensions), dtype=np.float32)
        somewhere[:, 0] = 1
        marks = Names(np.array([MARK, MARKED_KEY]), np.array([generation, key]))
        self._milvus.put(self.collection, marks, somewhere)

    def marked(self) -> tuple[int, int]:
        """What was told last: (generation, key); (0, -1) when nothing was."""
        marks = self._milvus.groups(self.collection, [MARK, MARKED_KEY])
        return (marks[MARK], marks[MARKED_KEY]) if len(marks) == 2 else (0, -1)

    def lost(self, keys: Ids) -> Ids:
        """Which of these are not there."""
        pieces = [keys[start : start + ROWS].tolist() for start in range(0, len(keys), ROWS)]
        there = [key for piece in pieces for key in self._milvus.groups(self.collection, piece)]
        return np.setdiff1d(keys, np.array(there, dtype=np.int64))

    def count(self) -> int:
        """How many rows there are in the collection, whoever knows of them."""
        return self._milvus.count(self.collection)

    def discard(self) -> None:
        """Remove the collection."""
        self._milvus.drop(self.collection)

    def write(self, path: Path) -> None:
        """Where the vectors are, as a file; raises OSError."""
        path.write_text(json.dumps({"collection": self.collection, "dimensions": self.dimensions, "rows": len(self)}))

    def _nearest(self, query: Vector, k: int, allowed: Mask, condition: str = "") -> Found:
        """Those of the k nearest that are allowed, best first."""
        keys, cosines = self._milvus.nearest(
            self.collection,
            query,
            min(k, MAX_HITS),
            width=max(SEARCH_WIDTH, 2 * k),
            condition=condition,
            strong=self._is_fresh(),
        )
        rows = self._rows_of(keys)
        kept = rows >= 0
        kept[kept] = allowed[rows[kept]]
        return Found(rows[kept], cosines[kept].astype(np.float64))

    def _rows_of(self, keys: Ids) -> Ids:
        """The row of each key; -1 for one that is unknown here."""
        if not len(self):
            return np.full(len(keys), -1)
        places = np.searchsorted(self._names.keys, keys, sorter=self._order)
        rows = self._order[np.minimum(places, len(self) - 1)]
        return np.where(self._names.keys[rows] == keys, rows, -1)

    def _conditions(self, allowed: Mask) -> list[str]:
        """What to ask for, so that the best of all answers are the best allowed rows."""
        last = self._last
        if last is None or last[0] is not allowed:  # a filter is asked again and again
            groups = self._names.groups
            inside = np.unique(groups[allowed])
            last = self._last = (allowed, inside, np.setdiff1d(np.unique(groups[~allowed]), inside))
        _, inside, outside = last
        if len(outside) <= min(len(inside), GROUPS):
            return [f"attachment not in {outside.tolist()}" if len(outside) else ""]
        return [f"attachment in {inside[start : start + GROUPS].tolist()}" for start in range(0, len(inside), GROUPS)]

    def _cosines(self, query: Vector, rows: Ids) -> NDArray[np.float32]:
        """Without the vectors where Milvus computes them, which a graph may leave out for some rows."""
        if not len(rows):
            return np.zeros(0, dtype=np.float32)
        keys = self._names.keys[rows]
        there, cosines = self._milvus.nearest(
            self.collection,
            query,
            len(rows),
            width=max(SEARCH_WIDTH, 2 * len(rows)),
            condition=f"window in {keys.tolist()}",
            strong=self._is_fresh(),
        )
        known = dict(zip(there.tolist(), cosines.tolist(), strict=True))
        missing = [key for key in keys.tolist() if key not in known]
        if missing:
            known |= {key: float(vector @ query) for key, vector in self._vectors(missing).items()}
        return np.array([known[key] for key in keys.tolist()], dtype=np.float32)

    def _vectors(self, keys: list[int]) -> dict[int, Vector]:
        there = self._milvus.vectors(self.collection, keys, strong=self._is_fresh())
        missing = [key for key in keys if key not in there]
        if missing:
            there |= self._milvus.vectors(self.collection, missing, strong=True)
            missing = [key for key in missing if key not in there]
        if missing:
            raise RowsMissing(f"{self.collection} lacks {len(missing)} of {len(keys)} rows", np.array(missing))
        return there

    def _is_fresh(self) -> bool:
        return self._milvus.clock() < self._fresh_until


class MilvusGraphs:
    """The collections of one store's vectors by one embedder."""

    kind: Literal["hnsw", "milvus"] = "milvus"
    file = "graph.json"
    step_rows = ROWS

    def __init__(self, milvus: Milvus, store_id: str, fingerprint: str) -> None:
        self._milvus = milvus
        self._store = store_prefix(store_id)
        self._prefix = f"{self._store}{_safe(fingerprint)[:16]}_"

    def new(self, dimensions: int) -> MilvusIndex:
        """A graph to fill, over what others have put there; those of the store's former embedders are removed."""
        names = self._milvus.collections(self._prefix)
        if not names:
            made = f"{self._prefix}{time.time_ns() // 1_000_000:013x}_{os.urandom(4).hex()}"
            self._milvus.create(made, dimensions)
            names = self._milvus.collections(self._prefix)  # somebody else may have made one at the same time
        present = names[0]
        for other in self._milvus.collections(self._store):
            if other != present:
                self._milvus.drop(other)
        self._milvus.load(present)
        return self._index(present, dimensions)

    def found(self, dimensions: int) -> MilvusIndex | None:
        """What others have made, without rows; None when there is nothing."""
        names = self._milvus.collections(self._prefix)
        if not names:
            return None
        self._milvus.load(names[0], seconds=self._milvus.seconds)  # a search waits
        return self._index(names[0], dimensions)

    def read(self, path: Path, names: Names) -> MilvusIndex:
        """What `write` has left, its rows the first of these; raises ValueError where the collection is gone."""
        written = json.loads(path.read_bytes())
        collection, n_rows = written["collection"], int(written["rows"])
        if collection not in self._milvus.collections(self._prefix)[:1]:
            raise ValueError(f"Milvus has no collection {collection!r} any more")
        if n_rows > len(names.keys):
            raise ValueError(f"{path} is of {n_rows} rows and {len(names.keys)} have names")
        index = self._index(collection, int(written["dimensions"]))
        index.hold(Names(names.keys[:n_rows], names.groups[:n_rows]))
        return index

    def _index(self, collection: str, dimensions: int) -> MilvusIndex:
        return MilvusIndex(self._milvus, collection, dimensions)


class MilvusVectors:
    """Milvus as a searcher needs it: each store's graphs, and that a store is gone."""

    def __init__(self, milvus: Milvus) -> None:
        self._milvus = milvus

    def graphs(self, store_id: str, fingerprint: str) -> MilvusGraphs:
        """Of one store's vectors by one embedder; nothing is asked yet."""
        return MilvusGraphs(self._milvus, store_id, fingerprint)

    def drop(self, store_id: str) -> None:
        """Remove what there is of a store."""
        for collection in self._milvus.collections("manyhats_"):
            if collection.startswith(store_prefix(store_id)):
                self._milvus.drop(collection)

    def close(self) -> None:
        """Let the connection go."""
        self._milvus.close()


def store_prefix(store_id: str) -> str:
    """What the names of a store's collections begin with, and no other store's."""
    return f"manyhats_{FORMAT}_{_safe(store_id)}_"


def _safe(name: str) -> str:
    """A name as Milvus takes it, without what parts ours: other names than plain ones become their digest."""
    plain = re.fullmatch(r"(vs_)?[0-9A-Za-z]{8,64}", name)
    return name if plain else sha256(name.encode()).hexdigest()[:32]
