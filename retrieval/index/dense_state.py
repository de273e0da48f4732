"""One state of a dense index: its rows, where their vectors are, and how they are searched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from retrieval.index.base import Found, Ids, Mask, Scores, Vector, VectorIndex, Vectors, best
from retrieval.index.exact import ExactIndex
from retrieval.index.graphs import Graph, names_of
from retrieval.index.selection import Selection

EXACT_ROWS = 20_000  # so many allowed ones are compared in any case
EXACT_ROWS_PER_ROOT = 100  # … or this times √n: where walking the graph for a filter costs as much
DEAD_SHARE = 0.1
MAX_MASKS = 32


class GivenUp(Exception):
    """Building was told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """What one search sees. Rows below `n_graph` are the graph's, the rest the tail's."""

    chunk_ids: Ids
    numbers: Ids
    keys: Ids  # of windows, where vectors are shared with other processes; else any
    alive: Mask
    tail: ExactIndex
    graph: Graph | None = None
    n_graph: int = 0
    n_dead: int = 0
    windows_per_chunk: float = 1.0
    ascending: bool = True  # chunk ids
    masks: dict[Selection, Mask] = field(default_factory=dict)  # of this state's rows

    def __len__(self) -> int:
        return len(self.chunk_ids)


def described(state: State) -> State:
    """With what follows from the rows; masks of the state before are forgotten."""
    n_chunks = len(state)
    ascending = True
    if n_chunks:
        steps = np.diff(state.chunk_ids)
        ascending = bool(np.all(steps >= 0))
        n_chunks = 1 + int(np.count_nonzero(steps))
    return replace(
        state,
        n_dead=len(state) - int(np.count_nonzero(state.alive)),
        windows_per_chunk=len(state) / max(1, n_chunks),
        ascending=ascending,
        masks={},
    )


def too_many_dead(state: State) -> bool:
    return state.n_dead > DEAD_SHARE * len(state)


def fill(index: VectorIndex, state: State, rows: Ids, stopped: Callable[[], bool], *, step_rows: int) -> None:
    for start in range(0, len(rows), step_rows):
        if stopped():
            raise GivenUp
        some = rows[start : start + step_rows]
        index.add(vectors_of(state, some), names_of(state.keys, state.numbers, some))


def allowed_rows(state: State, selection: Selection | None) -> Mask:
    if selection is None:
        return state.alive
    mask = state.masks.get(selection)
    if mask is None:
        mask = state.alive & np.isin(state.numbers, selection.numbers)
        if len(state.masks) < MAX_MASKS:
            state.masks[selection] = mask
    return mask


def nearest(state: State, query: Vector, k: int, allowed: Mask) -> Found:
    """The k nearest allowed windows: (rows, cosines), best first."""
    tail = state.tail.search(query, k, allowed[state.n_graph :])
    if state.graph is None:
        return tail
    inside = allowed[: state.n_graph]
    n_inside = int(np.count_nonzero(inside))
    found = None
    if state.graph.is_far or n_inside > max(EXACT_ROWS, EXACT_ROWS_PER_ROOT * math.sqrt(state.n_graph)):
        found = state.graph.search(query, k, inside)
    if found is None:
        rows = np.flatnonzero(inside)
        found = best(rows, state.graph.cosines(query, rows), k)
    ids = np.concatenate([found.ids, tail.ids + state.n_graph])
    return best(ids, np.concatenate([found.scores, tail.scores]), k)


def by_chunk(chunk_ids: Ids, cosines: Scores, k: int) -> Found:
    """Windows, best first, as chunks: each by its first."""
    unique, first = np.unique(chunk_ids, return_index=True)
    return best(unique, cosines[first], k)


def rows_of(state: State, chunk_ids: Ids) -> Ids:
    """All rows of these chunks, ascending."""
    if not state.ascending:
        return np.flatnonzero(np.isin(state.chunk_ids, chunk_ids))
    unique = np.unique(chunk_ids)
    starts = np.searchsorted(state.chunk_ids, unique, side="left")
    ends = np.searchsorted(state.chunk_ids, unique, side="right")
    ranges = [np.arange(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *ranges])


def cosines_of(state: State, query: Vector, rows: Ids) -> Scores:
    cut = int(np.searchsorted(rows, state.n_graph))
    inside, outside = rows[:cut], rows[cut:] - state.n_graph
    pieces = [] if state.graph is None else [state.graph.cosines(query, inside)]
    return np.concatenate([*pieces, state.tail.cosines(query, outside)], dtype=np.float64)


def vectors_of(state: State, rows: Ids) -> Vectors:
    cut = int(np.searchsorted(rows, state.n_graph))
    inside, outside = rows[:cut], rows[cut:] - state.n_graph
    pieces = [] if state.graph is None else [state.graph.vectors(inside)]
    return np.concatenate([*pieces, state.tail.vectors(outside)])
