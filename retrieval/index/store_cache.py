"""One store's caches: its indexes as files, checked when they are read, and doing without when the disk refuses."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from retrieval.changes import ChunkText
from retrieval.errors import VectorsUnavailable
from retrieval.index.cache import Cache, Facts
from retrieval.index.dense import DenseIndex, Snapshot
from retrieval.index.graphs import FaissGraphs, Graph, Graphs
from retrieval.index.lexical import LexicalIndex

logger = logging.getLogger(__name__)


class StoreCache:
    """What one store's indexes leave on the disk, and find there again."""

    def __init__(self, folder: Path, scratch: Path | None, graphs: Graphs | None = None) -> None:
        """folder: of the caches; scratch: where a lexical index may live, None for in memory; graphs: of the vectors,
        those of this process if not given."""
        self._graphs = graphs or FaissGraphs()
        self._kind = "dense" if self._graphs.kind == "hnsw" else f"dense-{self._graphs.kind}"  # for its facts
        self._folder = folder
        self._dense = Cache(folder / "dense")
        self._lexical = Cache(folder / "lexical")
        self._scratch = None if scratch is None else scratch / f"{folder.name}-{uuid.uuid4().hex[:8]}"
        self._saved_dense = self._saved_lexical = 0  # generations
        self._saved_graph: Graph | None = None
        self._graph_file: Path | None = None  # where that is
        self._complained = False

    def load_dense(self, fingerprint: str, generation: int) -> tuple[DenseIndex | None, int]:
        """The cached vectors of this embedder and their generation, at most the one given; (None, 0) without."""
        cached = self._dense.load()
        if cached is None or cached[1].fingerprint != fingerprint or cached[1].generation > generation:
            return None, 0
        if cached[1].kind != self._kind:
            return None, 0
        files, facts = cached
        try:
            index = DenseIndex.read(files, self._graphs)
        except (OSError, ValueError, RuntimeError, KeyError, VectorsUnavailable) as error:
            logger.warning("the cache %s cannot be read, and is made anew: %s", files, error)
            return None, 0
        self._saved_dense = facts.generation
        self._saved_graph = index.snapshot().graph
        self._graph_file = files / self._graphs.file
        return index, facts.generation

    def load_lexical(self, generation: int) -> tuple[LexicalIndex | None, int]:
        """The cached words and their generation, at most the one given; (None, 0) without."""
        cached = self._lexical.load()
        if cached is None or cached[1].generation > generation or self._scratch is None:
            return None, 0
        files, facts = cached
        try:
            live = self._scratch / uuid.uuid4().hex[:8]
            shutil.copytree(files, live, copy_function=_link)
            index = LexicalIndex(live)
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning("the cache %s cannot be read, and is made anew: %s", files, error)
            return None, 0
        self._saved_lexical = facts.generation
        return index, facts.generation

    def new_lexical(self) -> LexicalIndex:
        """An empty lexical index: on the disk, or in memory when that refuses."""
        if self._scratch is not None:
            try:
                return LexicalIndex(self._scratch / uuid.uuid4().hex[:8])
            except (OSError, ValueError, RuntimeError) as error:
                self._complain(error)
        return LexicalIndex(None)

    def filled_lexical(self, chunks: Sequence[ChunkText]) -> LexicalIndex:
        """An index of these chunks: on the disk, or in memory when that refuses; written as a cache once more."""
        self._saved_lexical = 0
        index = self.new_lexical()
        try:
            index.change(chunks, ())
        except (OSError, ValueError, RuntimeError) as error:
            self._complain(error)
            index = LexicalIndex(None)
            index.change(chunks, ())
        return index

    def save_dense(self, snapshot: Snapshot, generation: int, fingerprint: str) -> None:
        """Write the index of that generation, unless it is there already."""
        if generation <= self._saved_dense and snapshot.graph is self._saved_graph:
            return
        graph_file = self._graph_file if snapshot.graph is self._saved_graph else None
        facts = Facts(generation=generation, fingerprint=fingerprint, kind=self._kind)
        files = self._save(self._dense, facts, lambda folder: snapshot.write(folder, graph_file))
        if files is not None:
            self._saved_dense = generation
            self._saved_graph = snapshot.graph
            self._graph_file = files / self._graphs.file

    def lexical_snapshot(self, index: LexicalIndex, generation: int) -> Path | None:
        """The index's files as they are now, linked: for `save_lexical`. None when there is nothing to save.

        An index in memory is not kept.
        """
        if generation <= self._saved_lexical or index.folder is None or self._scratch is None:
            return None
        folder = self._scratch / f"snapshot-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(parents=True)
            index.copy_to(folder)
        except OSError as error:
            self._complain(error)
            return None
        return folder

    def save_lexical(self, snapshot: Path, generation: int) -> None:
        """Make a snapshot the cache."""
        facts = Facts(generation=generation, fingerprint=None, kind="lexical")
        if self._save(self._lexical, facts, lambda folder: _move(snapshot, folder)) is not None:
            self._saved_lexical = generation
        shutil.rmtree(snapshot, ignore_errors=True)

    def close(self) -> None:
        """Remove what ends with the process."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _save(self, cache: Cache, facts: Facts, write: Callable[[Path], None]) -> Path | None:
        try:
            files = cache.save(facts, write)
        except OSError as error:
            self._complain(error)
            return None
        self._complained = False
        return files

    def _complain(self, error: Exception) -> None:
        if not self._complained:  # once, and not with every attempt
            self._complained = True
            logger.warning("an index in %s is not kept on the disk, searching goes on: %s", self._folder, error)


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)


def _link(source: str, target: str) -> str:
    Path(target).hardlink_to(source)
    return target
