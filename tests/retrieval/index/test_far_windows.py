"""A store whose vectors are in Milvus: the ranks of FAISS, shared by servers, and whatever goes wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import VectorsUnavailable
from retrieval.filters import parse_filter
from retrieval.index import dense as dense_module
from retrieval.index import far_windows
from retrieval.index.store_index import StoreIndex
from retrieval.search import Searcher
from tests.retrieval.index.milvus_lite import MilvusLite, skip_without_milvus
from tests.retrieval.library import EMBEDDER, Idle, Library, found, texts_of
from tests.retrieval.shelf import FINGERPRINT, Shelf

TEXTS = [f"passage {i} about subject {i % 7} and colour {i % 11}" for i in range(60)]
QUESTIONS = ("passage 3 about", "subject 5", "colour 9 and subject 2", "nothing of all that")
HALF = parse_filter({"type": "eq", "key": "half", "value": 1})


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusLite]:
    skip_without_milvus()
    lite = MilvusLite(tmp_path_factory.mktemp("milvus"))
    yield lite
    lite.stop()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are many."""
    for module in (dense_module, far_windows):
        monkeypatch.setattr(module, "GRAPH_ROWS", 20)
        monkeypatch.setattr(module, "TAIL_ROWS", 10)
    monkeypatch.setattr("retrieval.index.store_index.TAIL_ROWS", 10)
    monkeypatch.setattr(far_windows, "PIECE_ROWS", 16)


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def after_the_pause(self) -> None:
        """When Milvus is tried again."""
        from retrieval.index.milvus_service import PAUSE_SECONDS

        self.now += PAUSE_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def library(shelf: Shelf, tmp_path: Path) -> Library:
    return Library(shelf, tmp_path / "search")


@pytest.fixture
def store(library: Library) -> str:
    store_id = library.store()
    library.put(store_id, TEXTS[:30], attributes={"half": 1})
    library.put(store_id, TEXTS[30:], attributes={"half": 2})
    return store_id


@pytest.fixture
def server(library: Library, lite: MilvusLite, clock: Clock, tmp_path: Path) -> Iterator[Callable[[str], Searcher]]:
    """A server by name: servers have a database and a Milvus in common, and caches of their own."""
    from retrieval.index.milvus_index import MilvusVectors
    from retrieval.index.milvus_service import Milvus

    made: list[Searcher] = []

    def start(name: str) -> Searcher:
        shelf = library.shelf
        searcher = Searcher(
            shelf.database,
            tmp_path / name,
            fingerprint=FINGERPRINT,
            embedder_name=EMBEDDER,
            changes=shelf.changes,
            passages=shelf.passages,
            tending=Idle(),
            vectors=MilvusVectors(Milvus(lite.url, clock=clock)),
        )
        made.append(searcher)
        return searcher

    yield start
    for searcher in made:
        searcher.close()


def index_of(searcher: Searcher, store: str) -> StoreIndex:
    """The store's index, up to date."""
    searcher.details(store)
    return searcher._indexes[store]


def tended(searcher: Searcher, store: str) -> StoreIndex:
    index = index_of(searcher, store)
    while index.needs_tending():
        index.tend()
    return index


def kind(searcher: Searcher, store: str) -> str:
    dense = searcher.details(store)["dense"]
    return f"{dense['kind']} {dense['vectors']}" + (f" of {dense['vectors_in_graph']}" if dense["vectors"] else "")


def answers(searcher: Searcher, store: str) -> list[list[tuple[str, float]]]:
    """Passages with their scores, for every ranker, with and without a filter."""
    words = index_of(searcher, store).lexical
    if words.n_removed:  # they are weighed anew when they are tended; who searches sooner has other scores
        index_of(searcher, store).renew(words)
    hits = [
        found(searcher, store, question, ranker=ranker, filter=chosen, max_num_results=12)
        for question in QUESTIONS
        for ranker in ("dense", "hybrid")
        for chosen in (None, HALF)
    ]
    return [[(hit.passage.text, round(hit.score, 4)) for hit in some] for some in hits]


def test_ranks_are_those_of_faiss(library: Library, store: str, server: Callable[[str], Searcher]) -> None:
    plain, far = library.searcher(), server("a")
    tended(far, store)
    assert kind(far, store) == "milvus 60 of 60"
    assert answers(far, store) == answers(plain, store)
    library.put(store, ["passage 3 about subject 5"], attributes={"half": 1})
    library.shelf.attachments.detach(store, library.shelf.attachments.list(store).items[-1].file_id)
    assert kind(far, store) == "milvus 31 of 60"
    assert answers(far, store) == answers(plain, store)
    tended(far, store)
    assert answers(far, store) == answers(plain, store)
    plain.close()


def test_another_server_takes_what_is_there(
    library: Library, store: str, server: Callable[[str], Searcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = server("a")
    tended(first, store)
    library.put(store, ["passage 61 of late"])
    read: list[int] = []
    vectors_of = library.shelf.changes.vectors_of

    def counted(ids: np.ndarray) -> object:
        read.append(len(ids))
        return vectors_of(ids)

    monkeypatch.setattr(library.shelf.changes, "vectors_of", counted)
    second = server("b")
    assert kind(second, store) == "milvus 61 of 60"
    assert read[-1] == 1  # before it, some were read to learn their size
    assert answers(second, store) == answers(first, store)


def test_two_servers_that_build_at_once_agree(
    library: Library, store: str, server: Callable[[str], Searcher], lite: MilvusLite
) -> None:
    first, second = server("a"), server("b")
    indexes = [index_of(searcher, store) for searcher in (first, second)]
    assert all(index.awaited for index in indexes)
    done = [False, False]

    def other_meanwhile() -> bool:
        if not done[0]:
            done[0] = True
            indexes[1].tend()
            done[1] = True
        return False

    indexes[0].tend(other_meanwhile)
    assert done == [True, True]
    assert len(collections(lite, store)) == 1
    assert answers(first, store) == answers(second, store)
    graph = indexes[0].dense.snapshot().graph if indexes[0].dense else None
    assert graph is not None
    assert graph.count() == 60  # type: ignore[attr-defined]  # a far one has it


def collections(lite: MilvusLite, store: str) -> list[str]:
    from retrieval.index.milvus_index import store_prefix
    from retrieval.index.milvus_service import Milvus

    milvus = Milvus(lite.url)
    names = milvus.collections(store_prefix(store))
    milvus.close()
    return names


def test_a_start_goes_on_from_its_cache(store: str, server: Callable[[str], Searcher], library: Library) -> None:
    first = server("a")
    tended(first, store)
    first.close()
    library.put(store, ["passage 61 of late"])
    second, plain = server("a"), library.searcher()
    assert kind(second, store) == "milvus 61 of 60"
    assert answers(second, store) == answers(plain, store)
    plain.close()


def test_without_milvus_words_are_searched_and_dense_refuses(
    store: str, server: Callable[[str], Searcher], lite: MilvusLite, clock: Clock
) -> None:
    searcher = server("a")
    tended(searcher, store)
    expected = answers(searcher, store)
    lite.stop()
    try:
        with pytest.raises(VectorsUnavailable, match="does not answer"):
            found(searcher, store, QUESTIONS[0], ranker="dense")
        with pytest.raises(VectorsUnavailable, match="just now"):
            found(searcher, store, QUESTIONS[0], ranker="dense")
        by_words = found(searcher, store, QUESTIONS[0], ranker="hybrid")
        assert texts_of(by_words) == texts_of(found(searcher, store, QUESTIONS[0], ranker="lexical"))
    finally:
        lite.start()
    clock.after_the_pause()
    assert answers(searcher, store) == expected


def test_a_server_that_starts_without_milvus(
    store: str, server: Callable[[str], Searcher], lite: MilvusLite, clock: Clock
) -> None:
    lite.stop()
    try:
        searcher = server("a")
        assert texts_of(found(searcher, store, QUESTIONS[0], ranker="hybrid"))
        index = index_of(searcher, store)
        with pytest.raises(VectorsUnavailable, match="does not answer"):
            found(searcher, store, QUESTIONS[0], ranker="dense")
        with pytest.raises(VectorsUnavailable):
            index.tend()
    finally:
        lite.start()
    clock.after_the_pause()
    tended(searcher, store)
    assert kind(searcher, store) == "milvus 60 of 60"


def test_a_collection_that_is_lost_is_made_anew(
    store: str, server: Callable[[str], Searcher], lite: MilvusLite
) -> None:
    searcher = server("a")
    index = tended(searcher, store)
    expected = answers(searcher, store)
    assert index.dense is not None
    index.dense.snapshot().graph.discard()  # type: ignore[union-attr]  # a far one has it
    found(searcher, store, QUESTIONS[0], ranker="hybrid")
    assert index.awaited is not None
    tended(searcher, store)
    assert answers(searcher, store) == expected
    assert len(collections(lite, store)) == 1


def test_rows_that_are_lost_are_found_missing(store: str, server: Callable[[str], Searcher], lite: MilvusLite) -> None:
    from retrieval.index.milvus_service import Milvus

    searcher = server("a")
    index = tended(searcher, store)
    expected = answers(searcher, store)
    assert index.dense is not None
    (collection,) = collections(lite, store)
    milvus = Milvus(lite.url)
    milvus.remove_groups(collection, np.array(sorted(index.dense.numbers))[:1])
    milvus.close()
    found(searcher, store, QUESTIONS[0], ranker="hybrid", max_num_results=50)
    assert index.awaited is not None
    tended(searcher, store)
    assert collections(lite, store) != [collection]
    assert answers(searcher, store) == expected


def test_a_collection_ahead_of_the_database_is_of_another_life(
    library: Library, store: str, server: Callable[[str], Searcher], lite: MilvusLite
) -> None:
    first = server("a")
    index = tended(first, store)
    assert index.dense is not None
    index.dense.snapshot().graph.mark(10_000, 1)  # type: ignore[union-attr]  # a far one has it
    before = collections(lite, store)
    second = server("b")
    assert index_of(second, store).awaited is not None
    tended(second, store)
    assert collections(lite, store) != before
    assert kind(second, store) == "milvus 60 of 60"


def test_what_is_dead_is_removed_for_all(library: Library, store: str, server: Callable[[str], Searcher]) -> None:
    first, second = server("a"), server("b")
    tended(first, store)
    tended(second, store)
    library.shelf.attachments.detach(store, library.shelf.attachments.list(store).items[-1].file_id)
    index = tended(first, store)
    graph = index.dense.snapshot().graph if index.dense else None
    assert graph is not None
    assert (len(graph), graph.count()) == (30, 30)  # type: ignore[attr-defined]  # a far one has it
    assert graph.marked()[0] > 0  # type: ignore[attr-defined]  # likewise
    assert answers(second, store) == answers(first, store)


def test_a_store_that_is_gone_leaves_nothing(store: str, server: Callable[[str], Searcher], lite: MilvusLite) -> None:
    searcher = server("a")
    tended(searcher, store)
    assert len(collections(lite, store)) == 1
    searcher.drop(store)
    assert collections(lite, store) == []


def test_a_small_store_needs_no_milvus(library: Library, server: Callable[[str], Searcher], lite: MilvusLite) -> None:
    store = library.store("small")
    library.put(store, TEXTS[:5])
    searcher = server("a")
    tended(searcher, store)
    assert kind(searcher, store) == "exact 5 of 0"
    assert collections(lite, store) == []
