"""From a question to passages: dense and lexical search over any number of stores, combined, filtered and joined.

    hits = searcher.search([store.id], "how long is the notice?", vector, SearchOptions(max_num_results=5))

What an index finds is a candidate: it is a hit only when its chunk is in the database now, in a store that was asked
for, with attributes that the filter lets through. So deletes and edits hold at once, whatever an index still has.

Vectors that are kept in Milvus may be out of reach: then `hybrid` and `rerank` go by the words alone, and `dense`
refuses.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from retrieval.changes import Changes, StoreState
from retrieval.errors import (
    OtherEmbedder,
    QueryInvalid,
    RetrievalError,
    SearchFailed,
    StoreExpired,
    StoreNotFound,
    VectorsUnavailable,
)
from retrieval.filters import Filter
from retrieval.index.candidates import Candidate, Question, candidate_depth, candidates
from retrieval.index.damage import IndexDamaged, VectorsDamaged
from retrieval.index.dense import DenseIndex
from retrieval.index.graphs import FarGraphs
from retrieval.index.scratch import Scratch
from retrieval.index.store_cache import StoreCache
from retrieval.index.store_index import StoreIndex
from retrieval.index.tending import Tending
from retrieval.passage import Passage
from retrieval.passages import Passages
from retrieval.ports import Store
from retrieval.rerank import Reranker

logger = logging.getLogger(__name__)

Ranker = Literal["hybrid", "dense", "lexical", "rerank"]
RANKERS: tuple[str, ...] = get_args(Ranker)

RERANKED = 50  # candidates that a cross-encoder reads
MOST_LOADED = 256  # stores whose indexes are in memory; those that were not searched for longest go first


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What a search is asked for beside its question."""

    max_num_results: int = 10
    ranker: Ranker = "hybrid"
    score_threshold: float = 0.0  # of the ranker's own score
    filter: Filter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found."""

    passage: Passage
    score: float  # from 0 to 1, by the ranker that was asked for
    dense: float | None  # max(0, cosine); None where the store has no vectors of the embedder
    lexical: float | None  # BM25 ÷ what a chunk of nothing but the question's words would approach


class FarVectors(Protocol):
    """Where the vectors of large stores are kept, if not in this process."""

    def graphs(self, store_id: str, fingerprint: str) -> FarGraphs:
        """Of one store's vectors by one embedder; nothing is asked yet."""
        ...

    def drop(self, store_id: str) -> None:
        """Remove what there is of a store; raises VectorsUnavailable."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


class Searcher:
    """Searches the stores of one database. Any thread may call it; `close` when nobody does any more."""

    def __init__(
        self,
        database: Store,
        folder: Path,
        *,
        fingerprint: str,
        embedder_name: str,
        reranker: Reranker | None = None,
        changes: Changes | None = None,
        passages: Passages | None = None,
        tending: Tending | None = None,
        vectors: FarVectors | None = None,
    ) -> None:
        """Nothing is read before the first search.

        folder: for caches; it may be lost at any time. fingerprint, embedder_name: of who makes the questions' vectors.
        vectors: where those of large stores are kept; in this process if not given.
        """
        self._changes = changes or Changes(database)
        self._passages = passages or Passages(database)
        self._tending = tending or Tending()
        self._folder = folder
        self._fingerprint = fingerprint
        self._embedder_name = embedder_name
        self._reranker = reranker
        self._vectors = vectors
        self._scratch = _scratch(folder / "live")
        self._indexes: OrderedDict[str, StoreIndex] = OrderedDict()
        self._turn = threading.Lock()

    def search(
        self, store_ids: Sequence[str], text: str, vector: NDArray[np.float32] | None, options: SearchOptions
    ) -> list[Hit]:
        """The best passages of these stores, best first, none twice; equal scores in the order of chunk ids.

        vector: the question as this embedder has it, of unit length; may be missing for `lexical`. In a store whose
        vectors are another embedder's or out of reach, `hybrid` and `rerank` go by the words alone, and `dense`
        refuses.

        Raises QueryInvalid, StoreNotFound, StoreExpired, OtherEmbedder, VectorsUnavailable, and SearchFailed for all
        that should not be.
        """
        with _told():
            self._check(text, vector, options)
            question = Question(text, vector, options.ranker, self._embedder_name)
            indexes = list(self._current(store_ids, options))
            if options.ranker == "rerank":
                return self._reranked(question, indexes, options)
            return self._best(question, indexes, options, options.max_num_results, options.score_threshold)

    def ahead(self, store_ids: Sequence[str], text: str, options: SearchOptions) -> None:
        """Look up the words of a question whose vector is still being made; the search that follows finds them done.

        Whatever is wrong, that search tells.
        """
        with suppress(RetrievalError), _told():
            for index in self._current(store_ids, options):
                index.lexical.search(text, candidate_depth(_wanted(options)), index.selection(options.filter))

    def details(self, store_id: str) -> dict[str, Any]:
        """Which index answers for a store, how large it is, and its languages; raises as `search`."""
        with _told():
            (index,) = self._current([store_id], SearchOptions(ranker="lexical"))
            return index.details()

    def warm(self, store_ids: Sequence[str]) -> None:
        """Bring the stores' indexes into memory, so that no search waits for that. What fails is logged."""
        for store_id in store_ids:
            try:
                self.details(store_id)
            except RetrievalError as error:
                logger.warning("the index of %s could not be read: %s", store_id, error)

    def drop(self, store_id: str) -> None:
        """Forget a store that is gone, and remove its caches."""
        with self._turn:
            index = self._indexes.pop(store_id, None)
        if index is not None:
            self._tending.forget(index)
            index.close()
        if self._vectors is not None:
            try:
                self._vectors.drop(store_id)
            except (VectorsUnavailable, IndexDamaged) as error:
                logger.warning("what Milvus has of %s stays for now: %s", store_id, error)
                return  # its folder stays too, and so the next sweep comes here again
        shutil.rmtree(self._folder / store_id, ignore_errors=True)

    def close(self) -> None:
        """Write the caches and let everything go; a second time there is nothing left."""
        self._tending.close()
        with self._turn:
            indexes = list(self._indexes.values())
            self._indexes.clear()
            scratch, self._scratch = self._scratch, None
        for index in indexes:
            index.save()
            index.close()
        if scratch is not None:
            scratch.close()
        if self._vectors is not None:
            self._vectors.close()

    def _check(self, text: str, vector: NDArray[np.float32] | None, options: SearchOptions) -> None:
        if not text.strip():
            raise QueryInvalid("the query is empty: give the text to search for", param="query")
        if options.ranker == "rerank" and self._reranker is None:
            known = ", ".join(ranker for ranker in RANKERS if ranker != "rerank")
            raise QueryInvalid(
                f"no reranker is configured on this server; rankers that work: {known}", param="ranking_options.ranker"
            )
        assert options.ranker in RANKERS
        assert vector is not None or options.ranker == "lexical", f"{options.ranker} needs the question's vector"

    def _current(self, store_ids: Sequence[str], options: SearchOptions) -> Iterator[StoreIndex]:
        """The stores' indexes as of now, or later, each once; however many there are, the database is asked once."""
        wanted = list(dict.fromkeys(store_ids))
        states = self._changes.states(wanted)
        return (self._followed(store_id, states.get(store_id), options) for store_id in wanted)

    def _followed(self, store_id: str, state: StoreState | None, options: SearchOptions) -> StoreIndex:
        if state is None:
            raise StoreNotFound(f"no vector store has the id {store_id!r}")
        if state.expired:
            raise StoreExpired(f"vector store {store_id!r} has expired; its files must be attached to a new one")
        if options.ranker == "dense":
            self._check_embedder(store_id, state)
        index = self._index(store_id)
        if index.follow(state):
            self._tending.soon(index)
        return index

    def _check_embedder(self, store_id: str, state: StoreState) -> None:
        if state.fingerprint in (None, self._fingerprint):
            return
        raise OtherEmbedder(
            f"the vectors of vector store {store_id!r} were made by another embedder than {self._embedder_name!r}; "
            f"run `manyhats stores reembed {store_id}`, or search with the ranker 'lexical' meanwhile"
        )

    def _index(self, store_id: str) -> StoreIndex:
        with self._turn:
            index = self._indexes.get(store_id)
            if index is None:
                scratch = None if self._scratch is None else self._scratch.folder
                graphs = None if self._vectors is None else self._vectors.graphs(store_id, self._fingerprint)
                cache = StoreCache(self._folder / store_id, scratch, graphs)
                index = StoreIndex(store_id, self._changes, cache, fingerprint=self._fingerprint, graphs=graphs)
                self._indexes[store_id] = index
            self._indexes.move_to_end(store_id)
            if len(self._indexes) > MOST_LOADED:
                self._tending.retire(self._indexes.popitem(last=False)[1])
            return index

    def _best(
        self, question: Question, indexes: Sequence[StoreIndex], options: SearchOptions, k: int, threshold: float
    ) -> list[Hit]:
        """The k best hits; more candidates are asked for until there are k hits or no more candidates."""
        depth = k
        while True:
            found: list[Candidate] = []
            further = -1.0  # that no chunk that was not found exceeds
            for index in indexes:
                some, others = self._candidates(question, index, depth, options.filter)
                found += some
                further = max(further, others)
            found.sort(key=lambda candidate: (-candidate.score, candidate.chunk_id))
            enough = [candidate for candidate in found if candidate.score >= threshold]
            hits = self._joined(enough, {index.store_id for index in indexes}, options.filter, k)
            if len(hits) == k or further < max(threshold, 0.0):
                return hits
            depth *= 4

    def _candidates(
        self, question: Question, index: StoreIndex, depth: int, chosen: Filter | None
    ) -> tuple[list[Candidate], float]:
        """As `candidates`; an index that turns out to be damaged is made anew first."""
        words, vectors = index.lexical, index.vectors
        try:
            return _by_what_is_there(question, index, vectors, depth, chosen)
        except VectorsDamaged as error:
            index.renew_vectors(vectors[0], error)
        except IndexDamaged as error:
            logger.warning("the lexical index of %s is damaged and is made anew: %s", index.store_id, error)
            index.renew(words)
        self._tending.soon(index)
        return _by_what_is_there(question, index, index.vectors, depth, chosen)

    def _joined(self, found: Sequence[Candidate], store_ids: set[str], chosen: Filter | None, k: int) -> list[Hit]:
        """The first k candidates that are really there, as the database has them now."""
        hits: list[Hit] = []
        seen: set[int] = set()
        start = 0
        while len(hits) < k and start < len(found):
            some = found[start : start + k - len(hits)]
            start += len(some)
            passages = self._passages.load([candidate.chunk_id for candidate in some])
            for candidate in some:
                passage = passages.get(candidate.chunk_id)
                if passage is None or passage.store_id not in store_ids or candidate.chunk_id in seen:
                    continue
                if chosen is not None and not chosen.matches(passage.attributes):
                    continue
                seen.add(candidate.chunk_id)
                scores = (candidate.score, candidate.dense, candidate.lexical)
                hits.append(Hit(passage=passage, score=scores[0], dense=scores[1], lexical=scores[2]))
        return hits

    def _reranked(self, question: Question, indexes: Sequence[StoreIndex], options: SearchOptions) -> list[Hit]:
        assert self._reranker is not None
        hits = self._best(question, indexes, options, _wanted(options), 0.0)
        scores = self._reranker.scores(question.text, [hit.passage.text for hit in hits])
        judged = [
            Hit(passage=hit.passage, score=float(score), dense=hit.dense, lexical=hit.lexical)
            for hit, score in zip(hits, scores, strict=True)
            if score >= options.score_threshold
        ]
        judged.sort(key=lambda hit: (-hit.score, hit.passage.chunk_id))
        return judged[: options.max_num_results]


def _by_what_is_there(
    question: Question,
    index: StoreIndex,
    vectors: tuple[DenseIndex | None, str | None],
    depth: int,
    chosen: Filter | None,
) -> tuple[list[Candidate], float]:
    """As `candidates`; by the words alone while vectors are out of reach, unless these alone were asked for.

    vectors: the index's, of one moment.
    """
    dense, awaited = vectors
    try:
        if question.ranker == "dense" and awaited is not None:
            raise VectorsUnavailable(
                f"the vectors of vector store {index.store_id!r} cannot be searched now: {awaited}"
            )
        return candidates(question, index, dense, depth, index.selection(chosen))
    except VectorsUnavailable:
        if question.ranker == "dense":
            raise
        return candidates(question, index, None, depth, index.selection(chosen))


def _wanted(options: SearchOptions) -> int:
    """How many hits the indexes are asked for."""
    return max(RERANKED, options.max_num_results) if options.ranker == "rerank" else options.max_num_results


def _scratch(folder: Path) -> Scratch | None:
    try:
        return Scratch(folder)
    except OSError as error:
        logger.warning("indexes are kept in memory only, the disk refuses: %s", error)
        return None


@contextmanager
def _told() -> Iterator[None]:
    """Whatever goes wrong inside is told as one of retrieval's errors, and never as an empty result."""
    try:
        yield
    except RetrievalError:
        raise
    except Exception as error:
        raise SearchFailed(f"the search failed: {type(error).__name__}: {error}") from error
