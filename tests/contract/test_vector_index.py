"""Every index of vectors finds what comparing all of them finds."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.index import dense_state, faiss_index
from retrieval.index.base import Names, VectorIndex
from retrieval.index.dense import DenseIndex
from retrieval.index.exact import ExactIndex
from retrieval.index.faiss_index import HnswIndex
from retrieval.index.graphs import FaissGraphs, Graphs
from retrieval.index.selection import Selection
from tests.retrieval.index.milvus_lite import MilvusLite, skip_without_milvus

SCIFACT = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "retrieval" / "scifact"
DIMENSIONS = 48
ROWS = 6_000
INDEXES: dict[str, Callable[[int], VectorIndex]] = {"exact": ExactIndex, "hnsw": HnswIndex}
KINDS = [*INDEXES, "milvus"]


def clustered(n: int, *, seed: int, centres: int = 0) -> NDArray[np.float32]:
    """Unit vectors in groups, as texts of several subjects are; other centres are other subjects."""
    random = np.random.default_rng(seed)
    middles = np.random.default_rng(centres).standard_normal((40, DIMENSIONS))
    points = middles[random.integers(0, len(middles), n)] + 0.5 * random.standard_normal((n, DIMENSIONS))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(ROWS, seed=1)
QUERIES = np.concatenate([clustered(40, seed=2), clustered(10, seed=3, centres=4)])  # some are about something else


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Graphs]]:
    """The graphs of a store in Milvus Lite, by its id."""
    skip_without_milvus()
    from retrieval.index.milvus_index import MilvusVectors
    from retrieval.index.milvus_service import Milvus

    lite = MilvusLite(tmp_path_factory.mktemp("milvus"))
    vectors = MilvusVectors(Milvus(lite.url))
    yield lambda store_id: vectors.graphs(store_id, "0" * 16)
    vectors.close()
    lite.stop()


def empty(kind: str, request: pytest.FixtureRequest, store_id: str) -> VectorIndex:
    if kind != "milvus":
        return INDEXES[kind](DIMENSIONS)
    graphs: Graphs = request.getfixturevalue("milvus")(store_id)
    return graphs.new(DIMENSIONS)


def questions(of: VectorIndex | DenseIndex) -> NDArray[np.float32]:
    """Those to ask; fewer where each takes a tenth of a second, as in Milvus Lite."""
    is_slow = isinstance(of, DenseIndex) and of.kind == "milvus"
    return QUERIES[::5] if is_slow or getattr(of, "is_far", False) else QUERIES


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest) -> VectorIndex:
    index = empty(request.param, request, "vs_contract")
    for start in range(0, ROWS, 1_000):
        index.add(VECTORS[start : start + 1_000])
    return index


def nearest(query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_]) -> list[int]:
    """The plainest search."""
    cosines = np.where(allowed, VECTORS @ query, -9)
    return [int(row) for row in np.argsort(-cosines)[: min(k, int(allowed.sum()))]]


MASKS = {
    "all": np.ones(ROWS, dtype=np.bool_),
    "half": np.random.default_rng(2).random(ROWS) < 0.5,
    "few": np.random.default_rng(3).random(ROWS) < 0.01,
    "one": np.arange(ROWS) == 77,
    "none": np.zeros(ROWS, dtype=np.bool_),
    "far": VECTORS[:, 0] < 0,  # goes with the vectors' places
}


@pytest.mark.parametrize("mask", MASKS)
def test_finds_what_comparing_all_finds_or_says_that_it_cannot_tell(index: VectorIndex, mask: str) -> None:
    allowed = MASKS[mask]
    recalls = []
    for query in questions(index):
        found = index.search(query, 10, allowed)
        if found is None:
            continue
        expected = nearest(query, 10, allowed)
        assert len(found.ids) == len(expected)
        assert allowed[found.ids].all()
        assert list(found.scores) == sorted(found.scores, reverse=True)
        np.testing.assert_allclose(found.scores, VECTORS[found.ids] @ query, atol=1e-5)
        recalls.append(len({*found.ids.tolist()} & {*expected}) / max(1, len(expected)) if expected else 1.0)
    if mask in ("all", "half"):
        assert len(recalls) == len(questions(index))
    if recalls:
        assert np.mean(recalls) >= 0.98


def test_a_filter_against_the_query_is_right_or_refused(index: VectorIndex) -> None:
    for query in questions(index):
        cosines = VECTORS @ query
        allowed = cosines < np.median(cosines)
        found = index.search(query, 10, allowed)
        if found is not None:
            assert {*found.ids.tolist()} == {*nearest(query, 10, allowed)}


def test_cosines_and_copies_of_any_rows(index: VectorIndex) -> None:
    rows = np.random.default_rng(4).choice(ROWS, 500, replace=False)
    np.testing.assert_allclose(index.cosines(QUERIES[0], rows), VECTORS[rows] @ QUERIES[0], atol=1e-5)
    rows.sort()
    np.testing.assert_array_equal(index.vectors(rows), VECTORS[rows])
    none = np.zeros(0, dtype=np.int64)
    assert index.cosines(QUERIES[0], none).shape == (0,)
    assert index.vectors(none).shape == (0, DIMENSIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_their_numbers_whatever_they_are_called(kind: str, request: pytest.FixtureRequest) -> None:
    index = empty(kind, request, "vs_names")
    keys = np.random.default_rng(6).permutation(600)
    for some in (slice(0, 400), slice(400, 600)):
        index.add(VECTORS[:600][some], Names(keys[some], keys[some] // 6))
    allowed = np.arange(600) % 5 > 0
    for query in QUERIES[:10]:
        found = index.search(query, 10, allowed)
        assert found is not None
        expected = [row for row in np.argsort(-(VECTORS[:600] @ query)) if allowed[row]][:10]
        assert len({*found.ids.tolist()} & {*expected}) >= 9
    rows = np.array([0, 399, 400, 599])
    np.testing.assert_array_equal(index.vectors(rows), VECTORS[rows])
    np.testing.assert_allclose(index.cosines(QUERIES[0], rows), VECTORS[rows] @ QUERIES[0], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_index(kind: str, request: pytest.FixtureRequest) -> None:
    index = empty(kind, request, "vs_empty000")
    assert len(index) == 0
    found = index.search(QUERIES[0], 10, np.zeros(0, dtype=np.bool_))
    assert found is not None
    assert len(found.ids) == 0


# The index of a store, whichever of them is behind it


@pytest.fixture(params=["exact", "graph", "graph and tail", "milvus and tail"])
def dense(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> DenseIndex:
    """All vectors as chunks of two windows, three chunks a file."""
    monkeypatch.setattr("retrieval.index.dense.GRAPH_ROWS", 10**9 if request.param == "exact" else 1_000)
    monkeypatch.setattr(dense_state, "EXACT_ROWS", 500)
    monkeypatch.setattr(dense_state, "EXACT_ROWS_PER_ROOT", 0)
    kind, _, tail = request.param.partition(" and ")
    graphs = request.getfixturevalue("milvus")(f"vs_{os.urandom(8).hex()}") if kind == "milvus" else FaissGraphs()
    index = DenseIndex(DIMENSIONS, graphs)
    cut = ROWS - 996 if tail else ROWS
    rows = np.arange(ROWS)
    index.add(rows[:cut] // 2, rows[:cut] // 6, VECTORS[:cut], rows[:cut])
    index.tend()
    index.add(rows[cut:] // 2, rows[cut:] // 6, VECTORS[cut:], rows[cut:])
    assert index.kind == {"exact": "exact", "graph": "hnsw", "milvus": "milvus"}[kind]
    return index


def best_chunks(query: NDArray[np.float32], k: int, files: NDArray[np.bool_]) -> list[int]:
    cosines = np.where(files[np.arange(ROWS) // 6], VECTORS @ query, -9).reshape(-1, 2).max(axis=1)
    return [int(chunk) for chunk in np.argsort(-cosines)[:k] if cosines[chunk] > -9]


@pytest.mark.parametrize("share", [1.0, 0.7, 0.3, 0.02, 0.001])
def test_chunks_with_and_without_filters(dense: DenseIndex, share: float) -> None:
    n_files = ROWS // 6
    files = np.random.default_rng(5).random(n_files) < share
    selection = None if share == 1.0 else Selection(np.flatnonzero(files), np.flatnonzero(~files))
    recalls = []
    for query in questions(dense):
        found = dense.search(query, 10, selection)
        expected = best_chunks(query, 10, files)
        assert len(found.ids) == len({*found.ids.tolist()}) == len(expected)
        recalls.append(len({*found.ids.tolist()} & {*expected}) / max(1, len(expected)))
        cosines = VECTORS.reshape(-1, 2, DIMENSIONS)[found.ids] @ query
        np.testing.assert_allclose(found.scores, cosines.max(axis=1), atol=1e-5)
        np.testing.assert_allclose(dense.cosines(query, found.ids), found.scores, atol=1e-5)
    assert share < 0.01 or np.mean(recalls) >= 0.98


def test_a_filter_for_what_is_far_from_the_question(dense: DenseIndex) -> None:
    recalls = []
    for query in questions(dense):
        by_file = (VECTORS @ query).reshape(-1, 6).max(axis=1)
        files = by_file < np.median(by_file)
        found = dense.search(query, 10, Selection(np.flatnonzero(files), np.flatnonzero(~files)))
        recalls.append(len({*found.ids.tolist()} & {*best_chunks(query, 10, files)}) / 10)
    assert np.mean(recalls) >= 0.98


def test_removed_files_are_gone_and_all_others_are_found(dense: DenseIndex) -> None:
    files = np.ones(ROWS // 6, dtype=np.bool_)
    for removed in (np.arange(0, 90), np.arange(400, 700)):
        files[removed] = False
        dense.remove(removed)
        for again in (False, True):
            if again:
                dense.tend()
            recalls = []
            for query in questions(dense)[:10]:
                found = dense.search(query, 10)
                recalls.append(len({*found.ids.tolist()} & {*best_chunks(query, 10, files)}) / 10)
                assert len(found.ids) == 10
                assert files[found.ids // 3].all()
            assert np.mean(recalls) >= 0.98
        assert len(dense) == 6 * int(files.sum())
    assert len(dense.search(QUERIES[0], ROWS).ids) == 3 * int(files.sum())


@pytest.mark.skipif(not SCIFACT.exists(), reason=f"{SCIFACT} is not on this machine")
def test_texts_as_their_embedder_has_them(monkeypatch: pytest.MonkeyPatch, embedder_cache: Path) -> None:
    from retrieval.embedding import Embedder

    with gzip.open(SCIFACT / "corpus.jsonl.gz", "rt") as file:
        titles = [json.loads(line)["title"] for line in file][:800]
    with gzip.open(SCIFACT / "queries.jsonl.gz", "rt") as file:
        questions = [json.loads(line)["text"] for line in file][:32]
    monkeypatch.setattr(faiss_index, "SEARCH_WIDTH", 96)  # of few texts the usual width would be nearly all
    embedder = Embedder(cache=embedder_cache)
    vectors, queries = embedder.embed(titles), embedder.embed(questions)
    index = HnswIndex(embedder.dimensions)
    index.add(vectors)
    for allowed in (np.ones(len(titles), dtype=np.bool_), np.arange(len(titles)) % 3 > 0):
        recalls = []
        for query in queries:
            found = index.search(query, 10, allowed)
            assert found is not None
            expected = np.argsort(-np.where(allowed, vectors @ query, -9))[:10]
            recalls.append(len({*found.ids.tolist()} & {*expected.tolist()}) / 10)
        assert np.mean(recalls) >= 0.98
