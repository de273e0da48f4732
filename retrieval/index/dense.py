"""The dense index of one store: its chunks' windows, chosen by cosine, and a chunk by its best window.

A new vector is compared with every query (`ExactIndex`), and answers at once. When there are 20,000 of them, a graph
over all is built in the background, and later enlarged by each further 10,000; the plain index goes on until the graph
is there. What is removed is left out by a mask; when a tenth is dead, everything is built anew in the background.
Searches never wait: each works on one state of the index, and changes make the next one.

The numbers are measured: comparing 20,000 vectors takes 0.8 ms and 50,000 take 10 ms, while a graph takes 0.9 ms.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retrieval.index.base import Found, Ids, Scores, Vector, Vectors
from retrieval.index.dense_state import (
    State,
    allowed_rows,
    by_chunk,
    cosines_of,
    described,
    fill,
    nearest,
    rows_of,
    too_many_dead,
    vectors_of,
)
from retrieval.index.exact import ExactIndex
from retrieval.index.faiss_index import HnswIndex
from retrieval.index.selection import Selection

GRAPH_ROWS = 20_000  # from here on there is a graph
TAIL_ROWS = 10_000  # that are compared one by one beside it, before it is enlarged
GRAPH_FILE = "graph.faiss"


class Snapshot:
    """One moment of an index."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def graph(self) -> HnswIndex | None:
        """The graph of that moment; graphs do not change."""
        return self._state.graph

    def write(self, folder: Path, graph_file: Path | None) -> None:
        """Everything as files in an empty folder; raises OSError.

        graph_file: where this graph was written before, to be linked; None when it was not.
        """
        state = self._state
        np.savez(folder / "rows.npz", chunk_ids=state.chunk_ids, numbers=state.numbers, alive=state.alive)
        np.save(folder / "tail.npy", state.tail.vectors(np.arange(len(state) - state.n_graph)))
        if state.graph is None:
            return
        if graph_file is None:
            state.graph.write(folder / GRAPH_FILE)
        else:
            (folder / GRAPH_FILE).hardlink_to(graph_file)


class DenseIndex:
    """The windows of one store. Any thread may call it; one at a time may call `tend`."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        none = np.zeros(0, dtype=np.int64)
        self._state = State(
            chunk_ids=none, numbers=none, alive=np.zeros(0, dtype=np.bool_), tail=ExactIndex(dimensions)
        )
        self._turn = threading.Lock()  # of those who make the next state

    def __len__(self) -> int:
        return len(self._state) - self._state.n_dead

    @property
    def kind(self) -> Literal["exact", "hnsw"]:
        """Which index answers now."""
        return "exact" if self._state.graph is None else "hnsw"

    def details(self) -> dict[str, Any]:
        """Figures of the index, for its owner to see."""
        state = self._state
        return {
            "kind": self.kind,
            "vectors": len(state) - state.n_dead,
            "removed_vectors": state.n_dead,
            "vectors_in_graph": state.n_graph,
            "building": self.needs_tending(),
            "dimensions": self.dimensions,
            "bytes": len(state) * (self.dimensions * 4 + 17),
        }

    def add(self, chunk_ids: Ids, numbers: Ids, vectors: Vectors) -> None:
        """Add windows, one a row; windows of one chunk have its id in common. Found by every search from now on."""
        if not len(chunk_ids):
            return
        assert vectors.shape == (len(chunk_ids), self.dimensions)
        order = np.argsort(chunk_ids, kind="stable")
        with self._turn:
            state = self._state
            state.tail.add(vectors[order])
            self._state = described(
                replace(
                    state,
                    chunk_ids=np.concatenate([state.chunk_ids, chunk_ids[order]]),
                    numbers=np.concatenate([state.numbers, numbers[order]]),
                    alive=np.concatenate([state.alive, np.ones(len(chunk_ids), dtype=np.bool_)]),
                )
            )

    def remove(self, numbers: Ids) -> None:
        """Take out the windows of these attachments; no search from now on finds them."""
        if not len(numbers):
            return
        with self._turn:
            state = self._state
            alive = state.alive & ~np.isin(state.numbers, numbers)
            self._state = described(replace(state, alive=alive))

    def search(self, query: Vector, k: int, selection: Selection | None = None) -> Found:
        """The k chunks whose best window has the largest cosine: (chunk ids, cosines), best first.

        As many as there are when these are fewer than k.
        """
        state = self._state
        allowed = allowed_rows(state, selection)
        n_allowed = int(np.count_nonzero(allowed))
        wanted = min(n_allowed, math.ceil(k * state.windows_per_chunk))
        while True:
            windows = nearest(state, query, wanted, allowed)
            found = by_chunk(state.chunk_ids[windows.ids], windows.scores, k)
            if len(found.ids) == k or wanted >= n_allowed:
                return found
            wanted = min(n_allowed, 4 * wanted)

    def cosines(self, query: Vector, chunk_ids: Ids) -> Scores:
        """The exact cosine of each chunk's best window; NaN for chunks that have none."""
        state = self._state
        rows = rows_of(state, chunk_ids)
        rows = rows[state.alive[rows]]
        cosines = cosines_of(state, query, rows)
        unique = np.unique(chunk_ids)
        found = np.full(len(unique), -np.inf)
        np.maximum.at(found, np.searchsorted(unique, state.chunk_ids[rows]), cosines)
        found[np.isinf(found)] = np.nan
        return found[np.searchsorted(unique, chunk_ids)]

    # In the background

    def needs_tending(self) -> bool:
        """Whether `tend` would do something."""
        state = self._state
        n_tail = len(state) - state.n_graph
        return n_tail >= (GRAPH_ROWS if state.graph is None else TAIL_ROWS) or too_many_dead(state)

    def tend(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Build or enlarge the graph, or build everything anew without what is dead; takes seconds to minutes.

        Others search and change meanwhile. Raises GivenUp, and then nothing has changed.
        """
        state = self._state
        if too_many_dead(state):
            self._build_anew(state, stopped)
        elif self.needs_tending():
            self._enlarge(state, stopped)

    def _enlarge(self, state: State, stopped: Callable[[], bool]) -> None:
        graph = HnswIndex(self.dimensions) if state.graph is None else state.graph.copy()
        fill(graph, state, np.arange(state.n_graph, len(state)), stopped)
        with self._turn:
            now = self._state
            tail = self._tail_of(now, len(state))
            self._state = described(replace(now, graph=graph, n_graph=len(state), tail=tail))

    def _build_anew(self, state: State, stopped: Callable[[], bool]) -> None:
        kept = np.flatnonzero(state.alive)
        graph = HnswIndex(self.dimensions) if len(kept) >= GRAPH_ROWS else None
        tail = ExactIndex(self.dimensions)
        fill(tail if graph is None else graph, state, kept, stopped)
        with self._turn:
            now = self._state
            later = np.arange(len(state), len(now))
            tail.add(vectors_of(now, later))
            rows = np.concatenate([kept, later])
            self._state = described(
                State(
                    chunk_ids=now.chunk_ids[rows],
                    numbers=now.numbers[rows],
                    alive=now.alive[rows],
                    tail=tail,
                    graph=graph,
                    n_graph=0 if graph is None else len(kept),
                )
            )

    def _tail_of(self, state: State, start: int) -> ExactIndex:
        tail = ExactIndex(self.dimensions)
        tail.add(vectors_of(state, np.arange(start, len(state))))
        return tail

    # As files

    def snapshot(self) -> Snapshot:
        """Everything of this moment, to be written whenever there is time."""
        return Snapshot(self._state)

    @classmethod
    def read(cls, folder: Path) -> DenseIndex:
        """What a snapshot has written; raises OSError, ValueError or RuntimeError for anything else."""
        with np.load(folder / "rows.npz") as rows:
            chunk_ids, numbers, alive = rows["chunk_ids"], rows["numbers"], rows["alive"]
        tail_vectors = np.load(folder / "tail.npy", mmap_mode="r")
        graph = HnswIndex.read(folder / GRAPH_FILE) if (folder / GRAPH_FILE).exists() else None
        n_graph = 0 if graph is None else len(graph)
        if len(chunk_ids) != n_graph + len(tail_vectors):
            raise ValueError(f"{folder} has {len(chunk_ids)} rows for {n_graph + len(tail_vectors)} vectors")
        index = cls(tail_vectors.shape[1])
        index._state.tail.add(tail_vectors)
        index._state = described(
            replace(index._state, chunk_ids=chunk_ids, numbers=numbers, alive=alive, graph=graph, n_graph=n_graph)
        )
        return index

    @property
    def numbers(self) -> set[int]:
        """Attachments that have windows here."""
        state = self._state
        return set(np.unique(state.numbers[state.alive]).tolist())
