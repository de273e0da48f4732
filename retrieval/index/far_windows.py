"""One store's windows when their vectors are kept elsewhere: which are there already, and bringing those that are not.

The database is the truth. What the shared collection has is known by its mark, and a sample of it is looked up before
it is believed; only what came after the mark is read from the database as vectors. A store of which too much is
missing there is filled in the background, piece by piece, whoever does it: servers that fill at the same time write the
same, and each goes on from the mark.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from retrieval.changes import Changes, Windows
from retrieval.errors import VectorsUnavailable
from retrieval.index.base import Ids, Names
from retrieval.index.dense import GRAPH_ROWS, TAIL_ROWS, DenseIndex
from retrieval.index.dense_state import GivenUp
from retrieval.index.graphs import FarGraph, FarGraphs

logger = logging.getLogger(__name__)

SAMPLE = 200  # rows that are looked up
PIECE_ROWS = 2_000  # read and sent at once


class FarWindows:
    """Reads one store from its database into an index whose graph is far."""

    def __init__(self, store_id: str, changes: Changes, graphs: FarGraphs, fingerprint: str) -> None:
        self._store_id = store_id
        self._changes = changes
        self._graphs = graphs
        self._fingerprint = fingerprint

    def attached(self, windows: Windows, generation: int, suspects: Ids) -> DenseIndex | None:
        """An index of all these windows; None while too many of them have to be brought first, by `bring`.

        windows: all of the store at a generation, without vectors. suspects: keys that a search has missed. Raises
        VectorsUnavailable.
        """
        n_windows = len(windows.ids)
        if not n_windows:
            return None
        dimensions = self._dimensions(windows)
        graph = self._graphs.found(dimensions)
        there = np.zeros(n_windows, dtype=np.bool_)
        if graph is not None:
            there = self._there(graph, windows, generation, suspects)
        n_missing = n_windows - int(np.count_nonzero(there))
        if n_missing > max(GRAPH_ROWS, TAIL_ROWS):
            return None
        index = DenseIndex(dimensions, self._graphs)
        if graph is not None and there.any():
            rows = np.flatnonzero(there)
            rows = rows[np.argsort(windows.chunk_ids[rows], kind="stable")]
            index.hold(windows.chunk_ids[rows], windows.numbers[rows], windows.ids[rows], graph)
        self.add(index, windows, ~there)
        return index

    def add(self, index: DenseIndex, windows: Windows, chosen: NDArray[np.bool_]) -> None:
        """Take some windows with their vectors into an index; what is gone by now the next change tells."""
        ids, vectors = self._changes.vectors_of(windows.ids[chosen])
        order = np.argsort(windows.ids)
        rows = order[np.searchsorted(windows.ids, ids, sorter=order)]
        if len(rows):
            index.add(windows.chunk_ids[rows], windows.numbers[rows], vectors, ids)

    def bring(self, stopped: Callable[[], bool]) -> None:
        """Send all windows that are not there yet.

        Raises GivenUp, VectorsUnavailable, VectorsDamaged or StoreNotFound; what was sent until then need not be again.
        """
        delta = self._changes.since(self._store_id, 0, fingerprint=self._fingerprint, vectors=False, texts=False)
        windows = delta.windows
        if not len(windows.ids):
            return
        graph = self._graphs.new(self._dimensions(windows))
        order = np.lexsort((windows.ids, windows.generations))
        generations, ids, numbers = windows.generations[order], windows.ids[order], windows.numbers[order]
        logger.info("%d vectors of %s are brought to where they are searched", len(ids), self._store_id)
        start = 0
        while True:
            if stopped():
                raise GivenUp
            start = max(start, _after(graph.marked(), generations, ids))  # somebody else may be at it too
            if start >= len(ids):
                return
            some = slice(start, start + PIECE_ROWS)
            found, vectors = self._changes.vectors_of(ids[some])
            if len(found):
                places = np.argsort(ids[some])
                groups = numbers[some][places[np.searchsorted(ids[some], found, sorter=places)]]
                graph.add(vectors, Names(found, groups))
            start += len(ids[some])
            graph.mark(int(generations[start - 1]), int(ids[start - 1]))

    def _there(self, graph: FarGraph, windows: Windows, generation: int, suspects: Ids) -> NDArray[np.bool_]:
        """Which windows are in the graph; one that has lost some, or is of another life of the database, is removed."""
        marked, key = graph.marked()
        earlier = windows.generations < marked
        there: NDArray[np.bool_] = earlier | ((windows.generations == marked) & (windows.ids <= key))
        expected = windows.ids[there]
        sample = np.union1d(np.intersect1d(suspects, expected), _sample(expected))
        ahead = marked > generation
        if not ahead and graph.count() >= len(expected) and not len(graph.lost(sample)):
            return there
        state = self._changes.state(self._store_id)
        if state is None or state.generation != generation:  # what is missing may have been removed since
            raise VectorsUnavailable(f"the files of vector store {self._store_id!r} are being changed; try again")
        logger.warning(
            "the vectors of %s are not all where they were put, and are brought anew: %s",
            self._store_id,
            "they are ahead of the database" if ahead else "some are missing",
        )
        graph.discard()
        return np.zeros(len(windows.ids), dtype=np.bool_)

    def _dimensions(self, windows: Windows) -> int:
        _, vectors = self._changes.vectors_of(windows.ids[:SAMPLE])
        if not len(vectors):
            raise VectorsUnavailable(f"the files of vector store {self._store_id!r} are being changed; try again")
        return int(vectors.shape[1])


def _after(marked: tuple[int, int], generations: Ids, ids: Ids) -> int:
    """How many of the rows, ascending by generation and id, a mark is beyond."""
    generation, key = marked
    first, last = np.searchsorted(generations, generation, "left"), np.searchsorted(generations, generation, "right")
    return int(first + np.searchsorted(ids[first:last], key, "right"))


def _sample(ids: Ids) -> Ids:
    """The newest, which another life of the database would not have, and some of all others."""
    if len(ids) <= SAMPLE:
        return ids
    newest = np.partition(ids, -(SAMPLE // 2))[-(SAMPLE // 2) :]
    return np.union1d(newest, ids[:: len(ids) // (SAMPLE // 2)])
