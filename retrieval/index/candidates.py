"""What one store's indexes offer for a question: chunks with both scores and the one that they are ranked by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrieval.index.base import NOTHING, Found, Ids, Scores, Vector
from retrieval.index.dense import DenseIndex
from retrieval.index.lexical import LexicalIndex
from retrieval.index.selection import Selection
from retrieval.index.store_index import StoreIndex
from retrieval.language import likelihood
from retrieval.scores import dense_weight

MIN_DEPTH = 50  # candidates of each kind: what is best together may be in neither's first ten
DEPTH_PER_RESULT = 4
SURE = 0.9  # probability of a question's language


@dataclass(frozen=True, slots=True)
class Question:
    """What is searched for."""

    text: str
    vector: Vector | None
    ranker: Literal["hybrid", "dense", "lexical", "rerank"]
    embedder: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that an index knows, and that may be gone by now."""

    chunk_id: int
    score: float
    dense: float | None
    lexical: float | None


def candidate_depth(n_results: int) -> int:
    """How many candidates of each kind are looked at for so many results."""
    return max(MIN_DEPTH, DEPTH_PER_RESULT * n_results)


def candidates(
    question: Question,
    index: StoreIndex,
    dense: DenseIndex | None,
    n_results: int,
    selection: Selection | None,
) -> tuple[list[Candidate], float]:
    """At least the n_results best chunks of a store, in any order, and the score that no other chunk exceeds.

    That is -1 when there are no others. dense: the index's, or None to go by the words alone.
    """
    depth = candidate_depth(n_results)
    lexical, vector = index.lexical, question.vector
    by_vector = by_words = NOTHING
    if dense is not None and vector is not None and question.ranker != "lexical":
        by_vector = dense.search(vector, depth, selection)
    if question.ranker != "dense":
        by_words = lexical.search(question.text, depth, selection)
    chunk_ids = np.union1d(by_vector.ids, by_words.ids)
    cosines = np.full(len(chunk_ids), np.nan)
    if dense is not None and vector is not None:
        cosines = np.clip(_cosines(dense, vector, chunk_ids, by_vector), 0.0, 1.0)
    shares = _shares(lexical, question.text, chunk_ids, by_words)
    ranked = _ranking(question, index, dense)
    rows = zip(chunk_ids.tolist(), ranked(cosines, shares).tolist(), cosines.tolist(), shares.tolist(), strict=True)
    found = [
        Candidate(chunk_id, score, None if math.isnan(cosine) else cosine, share)
        for chunk_id, score, cosine, share in rows
        if not math.isnan(score)
    ]
    lists = (by_vector, by_words)
    if all(len(one.ids) < depth for one in lists):
        return found, -1.0
    ends = [np.clip(one.scores[-1:], 0.0, 1.0) if len(one.ids) == depth else np.zeros(1) for one in lists]
    return found, float(ranked(*ends)[0])


def _cosines(dense: DenseIndex, vector: Vector, chunk_ids: Ids, known: Found) -> Scores:
    """The cosine of each chunk, asking for those alone that were not found by it; NaN for chunks without a vector."""
    cosines = np.full(len(chunk_ids), np.nan)
    cosines[np.searchsorted(chunk_ids, known.ids)] = known.scores
    missing = ~np.isin(chunk_ids, known.ids)
    if missing.any():
        cosines[missing] = dense.cosines(vector, chunk_ids[missing])
    return cosines


def _shares(lexical: LexicalIndex, text: str, chunk_ids: Ids, known: Found) -> Scores:
    """The lexical score of each chunk, asking for those alone that were not found by their words."""
    shares = np.zeros(len(chunk_ids))
    shares[np.searchsorted(chunk_ids, known.ids)] = known.scores
    missing = ~np.isin(chunk_ids, known.ids)
    if missing.any():
        shares[missing] = lexical.scores(text, chunk_ids[missing])
    return shares


def _ranking(question: Question, index: StoreIndex, dense: DenseIndex | None) -> Callable[[Scores, Scores], Scores]:
    """The ranker's score of cosines and shares; NaN for what it does not rank."""
    if question.ranker == "dense":
        return lambda cosines, _: cosines
    if question.ranker == "lexical" or dense is None:
        return lambda _, shares: shares
    weight = dense_weight(question.embedder, _languages(question.text, index.lexical.languages))
    # a chunk without a vector of this embedder is judged by its words, as others are by both
    return lambda cosines, shares: np.where(np.isnan(cosines), shares, weight * cosines + (1 - weight) * shares)


def _languages(text: str, stored: Mapping[str, int]) -> Mapping[str, float]:
    """The languages that a question may be in: the store's, and of several the one that it is surely in."""
    if len(stored) < 2:
        return stored
    language, probability = likelihood(text)
    if language is None or language not in stored or probability < SURE:
        return stored
    return {language: 1.0}
