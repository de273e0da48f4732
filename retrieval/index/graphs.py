"""Where a large store's vectors are searched: in a graph of this process, or in Milvus, which many share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, Self

from retrieval.index.base import Ids, Names, VectorIndex
from retrieval.index.faiss_index import HnswIndex


class Graph(VectorIndex, Protocol):
    """The rows of a store that are not compared one by one."""

    @property
    def is_far(self) -> bool:
        """Whether the vectors are elsewhere: then even few rows are asked for, and not compared here."""
        ...

    def copy(self) -> Self:
        """Another index of the same rows, to add to while this one is searched."""
        ...

    def write(self, path: Path) -> None:
        """What this process has of it as a file; raises OSError."""
        ...


class FarGraph(Graph, Protocol):
    """A graph that other processes have too. Its rows are known by their names to all of them."""

    def hold(self, names: Names) -> None:
        """Append rows whose vectors are there already."""
        ...

    def kept(self, rows: Ids) -> FarGraph:
        """Another index, of these rows alone; groups without any of them are removed for all."""
        ...

    def mark(self, generation: int, key: int) -> None:
        """Tell all that every row is there up to this generation, and within it up to this key."""
        ...

    def marked(self) -> tuple[int, int]:
        """What was told last: (generation, key); (0, -1) when nothing was."""
        ...

    def count(self) -> int:
        """How many rows there are, whoever knows of them."""
        ...

    def lost(self, keys: Ids) -> Ids:
        """Which of these are not there."""
        ...

    def discard(self) -> None:
        """Remove all of it, for all."""
        ...


class Graphs(Protocol):
    """Makes the graphs of one store."""

    kind: Literal["hnsw", "milvus"]
    file: str  # what a graph is written to
    step_rows: int  # that one `add` takes; a build can be given up between two of them

    def new(self, dimensions: int) -> Graph:
        """A graph to fill. One that is far may have vectors already, but has no rows."""
        ...

    def read(self, path: Path, names: Names) -> Graph:
        """What `write` has left, its rows the first of these; raises OSError, ValueError or RuntimeError."""
        ...


class FarGraphs(Graphs, Protocol):
    """Those that are far."""

    def new(self, dimensions: int) -> FarGraph:
        """A graph to fill, over what others have put there."""
        ...

    def found(self, dimensions: int) -> FarGraph | None:
        """What others have made, without rows; None when there is nothing."""
        ...


class FaissGraphs:
    """Graphs of this process."""

    kind: Literal["hnsw", "milvus"] = "hnsw"
    file = "graph.faiss"
    step_rows = 256

    def new(self, dimensions: int) -> HnswIndex:
        """An empty graph."""
        return HnswIndex(dimensions)

    def read(self, path: Path, names: Names) -> HnswIndex:
        """What `write` has left; raises RuntimeError for anything else."""
        return HnswIndex.read(path)


def names_of(keys: Ids, groups: Ids, rows: Any) -> Names:
    """The names of some rows; rows: whatever numpy takes as an index."""
    return Names(keys[rows], groups[rows])
