"""The dense index of one store: its chunks' windows, chosen by cosine, and a chunk by its best window.

A new vector is compared with every query (`ExactIndex`), and answers at once. When there are 20,000 of them, a graph
over all is built in the background, and later enlarged by each further 10,000; the plain index goes on until the graph
is there. What is removed is left out by a mask; when a tenth is dead, everything is built anew in the background.
Searches never wait: each works on one state of the index, and changes make the next one. With Milvus the graph is
there (`graphs`), and this process has the rows' names alone; what is new is compared here all the same.

The numbers are measured: comparing 20,000 vectors takes 0.8 ms and 50,000 take 10 ms, while a graph takes 0.9 ms.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from retrieval.index.base import Found, Ids, Names, Scores, Vector, Vectors
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
from retrieval.index.graphs import FaissGraphs, FarGraph, Graph, Graphs
from retrieval.index.selection import Selection

GRAPH_ROWS = 20_000  # from here on there is a graph
LAST_KEY = 2**62  # of any generation
TAIL_ROWS = 10_000  # that are compared one by one beside it, before it is enlarged
ROW_BYTES = 25  # that a row takes beside its vector
FAR_ROW_BYTES = 24  # … and in place of it, where that is elsewhere


class Snapshot:
    """One moment of an index."""

    def __init__(self, state: State, graph_file: str) -> None:
        self._state = state
        self.graph_file = graph_file  # its name

    @property
    def graph(self) -> Graph | None:
        """The graph of that moment; graphs do not change."""
        return self._state.graph

    def write(self, folder: Path, graph_file: Path | None) -> None:
        """Everything as files in an empty folder; raises OSError.

        graph_file: where this graph was written before, to be linked; None when it was not.
        """
        state = self._state
        np.savez(
            folder / "rows.npz",
            chunk_ids=state.chunk_ids,
            numbers=state.numbers,
            keys=state.keys,
            alive=state.alive,
        )
        np.save(folder / "tail.npy", state.tail.vectors(np.arange(len(state) - state.n_graph)))
        if state.graph is None:
            return
        if graph_file is None:
            state.graph.write(folder / self.graph_file)
        else:
            (folder / self.graph_file).hardlink_to(graph_file)


class DenseIndex:
    """The windows of one store. Any thread may call it; one at a time may call `tend`."""

    def __init__(self, dimensions: int, graphs: Graphs | None = None) -> None:
        """graphs: of this store; those of this process if not given."""
        self.dimensions = dimensions
        self._graphs = graphs or FaissGraphs()
        none = np.zeros(0, dtype=np.int64)
        self._state = State(
            chunk_ids=none, numbers=none, keys=none, alive=np.zeros(0, dtype=np.bool_), tail=ExactIndex(dimensions)
        )
        self._turn = threading.Lock()  # of those who make the next state

    def __len__(self) -> int:
        return len(self._state) - self._state.n_dead

    @property
    def kind(self) -> Literal["exact", "hnsw", "milvus"]:
        """Which index answers now."""
        return "exact" if self._state.graph is None else self._graphs.kind

    def details(self) -> dict[str, Any]:
        """Figures of the index, for its owner to see."""
        state = self._state
        n_far = state.n_graph if state.graph is not None and state.graph.is_far else 0
        return {
            "kind": self.kind,
            "vectors": len(state) - state.n_dead,
            "removed_vectors": state.n_dead,
            "vectors_in_graph": state.n_graph,
            "building": self.needs_tending(),
            "dimensions": self.dimensions,
            "bytes": len(state) * ROW_BYTES + n_far * FAR_ROW_BYTES + (len(state) - n_far) * self.dimensions * 4,
        }

    def hold(self, chunk_ids: Ids, numbers: Ids, keys: Ids, graph: FarGraph) -> None:
        """Begin with windows that are in a far graph already: the first call, before anybody searches."""
        assert not len(self._state)
        graph.hold(Names(keys, numbers))
        rows = replace(self._state, chunk_ids=chunk_ids, numbers=numbers, keys=keys, graph=graph, n_graph=len(keys))
        self._state = described(replace(rows, alive=np.ones(len(keys), dtype=np.bool_)))

    def add(self, chunk_ids: Ids, numbers: Ids, vectors: Vectors, keys: Ids | None = None) -> None:
        """Add windows, one a row; windows of one chunk have its id in common. Found by every search from now on.

        keys: of the windows, none twice; needed where graphs are far.
        """
        if not len(chunk_ids):
            return
        assert vectors.shape == (len(chunk_ids), self.dimensions)
        order = np.argsort(chunk_ids, kind="stable")
        with self._turn:
            state = self._state
            if keys is None:
                keys = np.arange(len(state), len(state) + len(chunk_ids))
            state.tail.add(vectors[order])
            self._state = described(
                replace(
                    state,
                    chunk_ids=np.concatenate([state.chunk_ids, chunk_ids[order]]),
                    numbers=np.concatenate([state.numbers, numbers[order]]),
                    keys=np.concatenate([state.keys, keys[order]]),
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

    def tend(self, stopped: Callable[[], bool] = lambda: False, *, generation: int = 0) -> None:
        """Build or enlarge the graph, or build everything anew without what is dead; takes seconds to minutes.

        Others search and change meanwhile. generation: up to which everything is here at least, for those who share
        the graph. Raises GivenUp, and then nothing has changed; of far graphs VectorsUnavailable and IndexDamaged too.
        """
        state = self._state
        if too_many_dead(state):
            self._build_anew(state, stopped)
        elif self.needs_tending():
            self._enlarge(state, generation, stopped)

    def _enlarge(self, state: State, generation: int, stopped: Callable[[], bool]) -> None:
        graph = self._graphs.new(self.dimensions) if state.graph is None else state.graph.copy()
        rows = np.arange(state.n_graph, len(state))
        fill(graph, state, rows, stopped, step_rows=self._graphs.step_rows)
        if graph.is_far:
            cast("FarGraph", graph).mark(generation, LAST_KEY)
        with self._turn:
            now = self._state
            tail = self._tail_of(now, len(state))
            self._state = described(replace(now, graph=graph, n_graph=len(state), tail=tail))

    def _build_anew(self, state: State, stopped: Callable[[], bool]) -> None:
        kept = np.flatnonzero(state.alive)
        graph: Graph | None = None
        into_tail = kept
        tail = ExactIndex(self.dimensions)
        if state.graph is not None and state.graph.is_far:  # which need not be built: what is dead is removed
            n_kept = int(np.searchsorted(kept, state.n_graph))
            graph, into_tail = cast("FarGraph", state.graph).kept(kept[:n_kept]), kept[n_kept:]
        elif len(kept) >= GRAPH_ROWS and self._graphs.kind == "hnsw":
            graph, into_tail = self._graphs.new(self.dimensions), kept[:0]
            fill(graph, state, kept, stopped, step_rows=self._graphs.step_rows)
        fill(tail, state, into_tail, stopped, step_rows=self._graphs.step_rows)
        with self._turn:
            now = self._state
            later = np.arange(len(state), len(now))
            tail.add(vectors_of(now, later))
            rows = np.concatenate([kept, later])
            self._state = described(
                State(
                    chunk_ids=now.chunk_ids[rows],
                    numbers=now.numbers[rows],
                    keys=now.keys[rows],
                    alive=now.alive[rows],
                    tail=tail,
                    graph=graph,
                    n_graph=0 if graph is None else len(graph),
                )
            )

    def _tail_of(self, state: State, start: int) -> ExactIndex:
        tail = ExactIndex(self.dimensions)
        tail.add(vectors_of(state, np.arange(start, len(state))))
        return tail

    # As files

    def snapshot(self) -> Snapshot:
        """Everything of this moment, to be written whenever there is time."""
        return Snapshot(self._state, self._graphs.file)

    @classmethod
    def read(cls, folder: Path, graphs: Graphs | None = None) -> DenseIndex:
        """What a snapshot has written; raises OSError, ValueError, RuntimeError or KeyError for anything else.

        graphs: as for a new one; what was written with others is such a thing.
        """
        graphs = graphs or FaissGraphs()
        with np.load(folder / "rows.npz") as rows:
            chunk_ids, numbers, alive = rows["chunk_ids"], rows["numbers"], rows["alive"]
            keys = rows["keys"] if "keys" in rows else np.arange(len(chunk_ids))  # of an earlier version
        tail_vectors = np.load(folder / "tail.npy", mmap_mode="r")
        written = folder / graphs.file
        graph = graphs.read(written, Names(keys, numbers)) if written.exists() else None
        n_graph = 0 if graph is None else len(graph)
        if len(chunk_ids) != n_graph + len(tail_vectors):
            raise ValueError(f"{folder} has {len(chunk_ids)} rows for {n_graph + len(tail_vectors)} vectors")
        index = cls(tail_vectors.shape[1], graphs)
        index._state.tail.add(tail_vectors)
        read = replace(index._state, chunk_ids=chunk_ids, numbers=numbers, keys=keys, alive=alive)
        index._state = described(replace(read, graph=graph, n_graph=n_graph))
        return index

    @property
    def numbers(self) -> set[int]:
        """Attachments that have windows here."""
        state = self._state
        return set(np.unique(state.numbers[state.alive]).tolist())
