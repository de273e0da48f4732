"""The indexes of one vector store: brought up to date from the database before a search, and kept on the disk between.

The database is the truth. What is in memory follows it by generations: a change costs what it changed, and a search
that begins after a change was acknowledged waits until the change is in. One thread at a time takes changes in; those
who need nothing newer search meanwhile.

Where vectors are kept elsewhere (`graphs`), they may not be there: the words are searched all the same.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from retrieval.changes import Changes, Delta, StoreState
from retrieval.errors import VectorsUnavailable
from retrieval.filters import Filter
from retrieval.index.base import Ids
from retrieval.index.damage import RowsMissing, VectorsDamaged
from retrieval.index.dense import TAIL_ROWS, DenseIndex
from retrieval.index.far_windows import FarWindows
from retrieval.index.graphs import FarGraphs
from retrieval.index.lexical import LexicalIndex
from retrieval.index.selection import Selection
from retrieval.index.store_cache import StoreCache
from retrieval.vector_store import Attributes

logger = logging.getLogger(__name__)

MAX_SELECTIONS = 64
NO_KEYS: Ids = np.zeros(0, dtype=np.int64)
RENEWED_CHUNKS = 5_000  # whose words are made anew within a second
UNREAD = 0  # the generation of an index that has taken nothing in


class StoreIndex:
    """Dense and lexical index of one store, and its files' attributes. Any thread may call it."""

    def __init__(
        self,
        store_id: str,
        changes: Changes,
        cache: StoreCache,
        *,
        fingerprint: str,
        graphs: FarGraphs | None = None,
    ) -> None:
        """Nothing is read before `follow`.

        fingerprint: of the embedder whose vectors are searched for. graphs: where these are kept, if not here.
        """
        self.store_id = store_id
        self._changes = changes
        self._cache = cache
        self._fingerprint = fingerprint
        self._begun = False
        self._far = None if graphs is None else FarWindows(store_id, changes, graphs, fingerprint)
        # the dense index, None while there are no vectors of our embedder; and why there is none, though there are
        self._vectors: tuple[DenseIndex | None, str | None] = (None, None)
        self._dense_generation = UNREAD
        self._lexical: LexicalIndex | None = None
        self._lexical_generation = UNREAD
        self._attributes: Mapping[int, Attributes] = {}  # by attachment; replaced, never changed
        self._selections: dict[tuple[str, int], Selection] = {}
        self._turn = threading.RLock()  # of those who change something here
        self._tended = threading.Lock()  # what is built starts from what was there: one at a time

    @property
    def dense(self) -> DenseIndex | None:
        """None while the store has no vectors of our embedder, or they are `awaited`."""
        return self._vectors[0]

    @property
    def awaited(self) -> str | None:
        """Why the store's vectors cannot be searched yet; None when they can, or there are none."""
        return self._vectors[1]

    @property
    def vectors(self) -> tuple[DenseIndex | None, str | None]:
        """`dense` and `awaited` of one moment."""
        return self._vectors

    @property
    def lexical(self) -> LexicalIndex:
        """The words of all chunks; call `follow` first."""
        assert self._lexical is not None
        return self._lexical

    @property
    def generation(self) -> int:
        """The store's generation that searches see, at least."""
        return min(self._dense_generation, self._lexical_generation)

    def follow(self, state: StoreState) -> bool:
        """Take in what changed up to this state, at least; whether there was anything. Raises StoreNotFound."""
        if self._begun and self.generation >= state.generation:
            return False
        with self._turn:
            if not self._begun:
                self._begin()
            while self.generation < state.generation:
                self._advance()
        return True

    def selection(self, chosen: Filter | None) -> Selection | None:
        """The attachments that a filter lets through now; None lets all through."""
        if chosen is None:
            return None
        key = (repr(chosen), self.generation)  # repr tells 1 from True
        selection = self._selections.get(key)
        if selection is None:
            selection = _selection(chosen, self._attributes)
            kept = list(self._selections.items())[-MAX_SELECTIONS:]
            self._selections = {**dict(kept), key: selection}
        return selection

    def renew(self, damaged: LexicalIndex) -> None:
        """Make the words anew from the database, unless somebody has; who searches meanwhile has the damaged ones."""
        with self._turn:
            if self._lexical is not damaged:
                return
            delta = self._since(UNREAD, vectors=False)
            self._lexical, self._lexical_generation = self._cache.filled_lexical(delta.chunks), delta.generation
        damaged.close()

    def renew_vectors(self, damaged: DenseIndex | None, error: VectorsDamaged) -> None:
        """Look for the vectors anew, unless somebody has: those that are elsewhere were not as they should be."""
        with self._turn:
            if self._far is None or self.dense is not damaged:
                return
            logger.warning("the vectors of %s are looked for anew: %s", self.store_id, error)
            self._attach(suspects=error.keys if isinstance(error, RowsMissing) else NO_KEYS)

    def details(self) -> dict[str, Any]:
        """What kind of index answers, and how large it is."""
        (dense, awaited), lexical = self._vectors, self._lexical
        none: dict[str, Any] = {"kind": "none", "vectors": 0, "bytes": 0}
        if awaited is not None:
            none["awaited"] = awaited
        languages = {} if lexical is None else lexical.languages
        return {
            "generation": self.generation,
            "dense": none if dense is None else dense.details(),
            "lexical": {"chunks": 0 if lexical is None else len(lexical), "languages": dict(languages)},
        }

    # In the background

    def needs_tending(self) -> bool:
        """Whether `tend` would do something."""
        dense, awaited = self._vectors
        return awaited is not None or (dense is not None and dense.needs_tending())

    def tend(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Build what is due: see `DenseIndex.tend`; vectors that are awaited are brought first. Words are weighed anew.

        BM25 counts a removed chunk until its segment is merged: until then equal stores have unequal scores, by what
        each process has seen. In a small store that is much, and making its words anew is little.
        """
        with self._tended:
            self._tend(stopped)

    def save(self) -> None:
        """Write the caches, where they are not up to date; a disk that refuses is logged, and nothing else."""
        with self._turn:
            if not self._begun:
                return
            dense = None if self.dense is None else self.dense.snapshot()
            dense_generation, lexical_generation = self._dense_generation, self._lexical_generation
            words = None
            if self._lexical is not None:
                words = self._cache.lexical_snapshot(self._lexical, lexical_generation)
        # What takes its time is done without the lock, which searches after a change wait for.
        if words is not None:
            self._cache.save_lexical(words, lexical_generation)
        if dense is not None:
            self._cache.save_dense(dense, dense_generation, self._fingerprint)
        if self._lexical is not None:
            self._lexical.close()  # the next change opens it again

    def close(self) -> None:
        """Let go what this process alone needs; nobody may search any more."""
        with self._turn:
            if self._lexical is not None:
                self._lexical.close()
            self._cache.close()

    def _tend(self, stopped: Callable[[], bool]) -> None:
        lexical = self._lexical
        if lexical is not None and lexical.n_removed and len(lexical) <= RENEWED_CHUNKS:
            self.renew(lexical)
        if self._far is not None and self.awaited is not None:
            self._far.bring(stopped)
            with self._turn:
                self._attach()
        with self._turn:
            dense, generation = self.dense, self._dense_generation
        try:
            if dense is not None:
                dense.tend(stopped, generation=generation)
        except VectorsDamaged as error:
            self.renew_vectors(dense, error)

    def _begin(self) -> None:
        files = self._changes.since(self.store_id, UNREAD, fingerprint=None, texts=False)
        self._attributes = {file.number: file.attributes for file in files.files}
        # A cache from another life of the database, ahead of it, is worth nothing.
        dense, self._dense_generation = self._cache.load_dense(self._fingerprint, files.generation)
        self._vectors = dense, None
        lexical, self._lexical_generation = self._cache.load_lexical(files.generation)
        self._lexical = lexical or self._cache.new_lexical()
        self._begun = True

    def _advance(self) -> None:
        dense, lexical = self._dense_generation, self._lexical_generation
        if dense == lexical:
            delta = self._since(dense)
            self._take_words(delta)
            self._take_windows(delta)
        elif dense < lexical:
            self._take_windows(self._since(dense, texts=False))
        else:
            self._take_words(self._since(lexical, vectors=False))

    def _since(self, generation: int, *, vectors: bool = True, texts: bool = True) -> Delta:
        fingerprint = self._fingerprint if vectors else None
        here = vectors and self._far is None  # those that are elsewhere are read when it is known which are needed
        delta = self._changes.since(self.store_id, generation, fingerprint=fingerprint, vectors=here, texts=texts)
        changed = {file.number: file.attributes for file in delta.files}
        gone = set(delta.removed.tolist())
        kept = {} if delta.full else {n: has for n, has in self._attributes.items() if n not in gone}
        if changed or gone or delta.full:
            self._attributes = kept | changed
        return delta

    def _take_windows(self, delta: Delta) -> None:
        if self._far is not None:
            self._take_far_windows(self._far, delta)
            return
        windows = delta.windows
        if delta.full and delta.generation < self._dense_generation:
            self._vectors = None, None  # the database went back in time
        dense = self.dense
        if dense is None and len(windows.chunk_ids):
            dense = DenseIndex(windows.vectors.shape[1])
        if dense is not None:
            removed, new = delta.removed, np.ones(len(windows.numbers), dtype=np.bool_)
            if delta.full:  # what an attachment holds never changes: those that stay need not be taken in again
                known = np.array(sorted(dense.numbers), dtype=np.int64)
                removed = np.setdiff1d(known, windows.numbers)
                new = ~np.isin(windows.numbers, known)
            dense.remove(removed)
            if new.any():
                dense.add(windows.chunk_ids[new], windows.numbers[new], windows.vectors[new])
        self._vectors = dense, None
        self._dense_generation = delta.generation

    def _take_far_windows(self, far: FarWindows, delta: Delta) -> None:
        windows = delta.windows
        if self.awaited is not None:  # they will be read together with all others
            self._dense_generation = delta.generation
            return
        dense = self.dense
        if delta.full or dense is None or len(windows.ids) > TAIL_ROWS:
            self._attach(delta if delta.full else None)
            return
        dense.remove(delta.removed)
        far.add(dense, windows, np.ones(len(windows.ids), dtype=np.bool_))
        self._dense_generation = delta.generation

    def _attach(self, delta: Delta | None = None, suspects: Ids = NO_KEYS) -> None:
        """Begin with all windows, which a full delta has; where that cannot be they are awaited.

        suspects: keys of windows that a search has missed.
        """
        assert self._far is not None
        if delta is None:
            fingerprint = self._fingerprint
            delta = self._changes.since(self.store_id, UNREAD, fingerprint=fingerprint, vectors=False, texts=False)
        dense, awaited = None, None
        try:
            dense = self._far.attached(delta.windows, delta.generation, suspects)
            if dense is None and len(delta.windows.ids):
                awaited = "they are on their way to Milvus"
        except (VectorsUnavailable, VectorsDamaged) as error:
            awaited = str(error)
        self._vectors = dense, awaited
        self._dense_generation = delta.generation

    def _take_words(self, delta: Delta) -> None:
        if self._lexical is None or (delta.full and delta.generation < self._lexical_generation):  # as above
            self._lexical = self._cache.new_lexical()
        chunks, removed = delta.chunks, set(delta.removed.tolist())
        try:
            if delta.full:
                known = self._lexical.numbers()
                removed = known - {chunk.number for chunk in chunks}
                chunks = [chunk for chunk in chunks if chunk.number not in known]
            self._lexical.change(chunks, removed)
            self._lexical_generation = delta.generation
        except (OSError, ValueError, RuntimeError) as error:
            if self._lexical.folder is None:
                raise
            logger.warning("the lexical index of %s goes on in memory, the disk refuses: %s", self.store_id, error)
            self._lexical = LexicalIndex(None)
            self._lexical_generation = UNREAD


def _selection(chosen: Filter, attributes: Mapping[int, Attributes]) -> Selection:
    numbers = np.array(sorted(attributes), dtype=np.int64)
    matches = np.array([chosen.matches(attributes[number]) for number in numbers.tolist()], dtype=np.bool_)
    return Selection(numbers[matches], numbers[~matches])
