from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.errors import OtherEmbedder, QueryInvalid, SearchFailed, StoreExpired, StoreNotFound
from retrieval.filters import parse_filter
from retrieval.index.lexical import LexicalIndex
from retrieval.index.tending import Tending
from retrieval.search import Searcher, SearchOptions
from tests.retrieval.library import Library, embedded, found, texts_of
from tests.retrieval.shelf import Shelf

OTHER = "0" * 64

CATS = "Cats sleep for most of the day."
TRAINS = "The night train to Lisbon leaves at nine."
RENT = "The rent is due on the first of the month."
NOTICE = "A tenant gives three months of notice."
TEXTS = (CATS, TRAINS, RENT, NOTICE)


@pytest.fixture
def library(shelf: Shelf, tmp_path: Path) -> Library:
    return Library(shelf, tmp_path / "search")


@pytest.fixture
def searcher(library: Library) -> Iterator[Searcher]:
    searcher = library.searcher()
    yield searcher
    searcher.close()


@pytest.fixture
def store(library: Library) -> str:
    return library.store()


@pytest.mark.parametrize("ranker", ["hybrid", "dense", "lexical"])
def test_the_passage_that_is_asked_for_comes_first(
    library: Library, searcher: Searcher, store: str, ranker: str
) -> None:
    library.put(store, TEXTS)
    hits = found(searcher, store, "When is the rent due?", ranker=ranker)
    assert hits[0].passage.text == RENT
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(0 < hit.score <= 1 for hit in hits)


def test_scores_are_what_they_are_said_to_be(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, TEXTS)
    question = "Is the rent due in three months?"
    by_hybrid = {hit.passage.text: hit for hit in found(searcher, store, question)}
    by_vector = {hit.passage.text: hit for hit in found(searcher, store, question, ranker="dense")}
    by_words = {hit.passage.text: hit for hit in found(searcher, store, question, ranker="lexical")}
    for text, hit in by_hybrid.items():
        cosine = max(0.0, float(embedded(question) @ embedded(text)))
        assert hit.dense == pytest.approx(cosine, abs=1e-6)
        assert by_vector[text].score == hit.dense
        assert hit.lexical == pytest.approx(by_words[text].score if text in by_words else 0.0, abs=1e-6)
        assert hit.lexical is not None
        assert hit.score == pytest.approx(0.4 * cosine + 0.6 * hit.lexical, abs=1e-6)  # MiniLM's w for English
    assert set(by_vector) == set(TEXTS)


def test_a_threshold_cuts_the_rankers_own_score(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, TEXTS)
    for ranker in ("hybrid", "dense", "lexical"):
        every = found(searcher, store, "a tenant gives notice", ranker=ranker)
        cut = every[0].score
        kept = found(searcher, store, "a tenant gives notice", ranker=ranker, score_threshold=cut)
        assert texts_of(kept) == [NOTICE]
        assert found(searcher, store, "a tenant gives notice", ranker=ranker, score_threshold=1.0) == []


def test_words_that_nobody_wrote_score_nothing(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, TEXTS)
    assert found(searcher, store, "xyzzy plugh", ranker="lexical") == []
    (hit,) = found(searcher, store, "xyzzy plugh quux tenant", ranker="lexical")
    (sure,) = found(searcher, store, "tenant", ranker="lexical")
    assert hit.score < 0.3 * sure.score  # three words of four are not there


def test_changes_hold_from_the_next_search_on(library: Library, searcher: Searcher, store: str) -> None:
    assert found(searcher, store, "rent") == []
    file = library.put(store, [RENT], attributes={"year": 2024})
    later = library.put(store, [NOTICE])
    assert set(texts_of(found(searcher, store, "rent"))) == {RENT, NOTICE}
    old = parse_filter({"type": "eq", "key": "year", "value": 2024})
    assert texts_of(found(searcher, store, "rent", filter=old)) == [RENT]
    library.shelf.attachments.set_attributes(store, file.file_id, {"year": 2025})
    assert found(searcher, store, "rent", filter=old) == []
    library.shelf.attachments.detach(store, file.file_id)
    assert texts_of(found(searcher, store, "rent")) == [NOTICE]
    library.shelf.files.delete(later.file_id, None)
    for ranker in ("hybrid", "dense", "lexical"):
        assert found(searcher, store, "rent notice", ranker=ranker) == []


def test_as_many_results_as_exist(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, [f"common passage number {i}" for i in range(120)])
    for ranker in ("hybrid", "dense", "lexical"):
        assert len(found(searcher, store, "common passage", ranker=ranker, max_num_results=50)) == 50
        hits = found(searcher, store, "common passage", ranker=ranker, max_num_results=200)
        assert len({hit.passage.chunk_id for hit in hits}) == len(hits) == 120


def test_a_filter_leaves_k_results_when_k_exist(library: Library, searcher: Searcher, store: str) -> None:
    for i in range(20):
        texts = [f"common passage {i} of part {part}" for part in range(3)]
        library.put(store, texts, attributes={"part": i % 2, "i": i})
    odd = parse_filter({"type": "and", "filters": [{"type": "eq", "key": "part", "value": 1}]})
    for ranker in ("hybrid", "dense", "lexical"):
        hits = found(searcher, store, "common passage", ranker=ranker, max_num_results=30, filter=odd)
        assert len(hits) == 30
        assert {hit.passage.attributes["part"] for hit in hits} == {1}


def test_a_chunk_of_several_windows_is_scored_by_its_best_and_returned_once(
    library: Library, searcher: Searcher, store: str
) -> None:
    long = f"{CATS} {TRAINS} {RENT}"
    library.put(store, [long, NOTICE], windows=lambda text: text.split(". "))
    hits = found(searcher, store, "The rent is due on the first of the month.", ranker="dense")
    assert texts_of(hits) == [long, NOTICE]
    assert hits[0].score == pytest.approx(1.0, abs=1e-6)
    many = [" ".join(f"window {i} {j}. " for j in range(9)) for i in range(30)]
    library.put(store, many, windows=lambda text: text.split(". "))
    hits = found(searcher, store, "window 3 4", ranker="dense", max_num_results=25)
    assert len({hit.passage.chunk_id for hit in hits}) == 25


def test_several_stores_are_one_ranking_and_no_chunk_comes_twice(library: Library, searcher: Searcher) -> None:
    first, second = library.store("a"), library.store("b")
    library.put(first, [RENT, CATS])
    library.put(second, [NOTICE, TRAINS])
    hits = found(searcher, [first, second, first], "rent and notice")
    assert len(hits) == len({hit.passage.chunk_id for hit in hits}) == 4
    assert {hit.passage.text for hit in hits[:2]} == {RENT, NOTICE}
    assert {hit.passage.store_id for hit in hits} == {first, second}


def test_equal_scores_come_in_the_order_of_chunks(library: Library, searcher: Searcher, store: str) -> None:
    for _ in range(8):
        library.put(store, [RENT])
    for _ in range(3):
        hits = found(searcher, store, "the rent")
        ids = [hit.passage.chunk_id for hit in hits]
        assert ids == sorted(ids)


def test_stores_that_cannot_be_searched(library: Library, searcher: Searcher, store: str) -> None:
    with pytest.raises(StoreNotFound, match="vs_none"):
        found(searcher, "vs_none", "rent")
    expiring = library.shelf.stores.create("ana", expires_days=1).id
    library.put(expiring, [RENT])
    assert found(searcher, expiring, "rent")
    library.shelf.clock.now += 2 * 86_400
    with pytest.raises(StoreExpired, match=expiring):
        found(searcher, expiring, "rent")
    library.put(store, [RENT])
    assert found(searcher, store, "rent")
    library.shelf.stores.delete(store)
    with pytest.raises(StoreNotFound):
        found(searcher, store, "rent")


def test_questions_that_cannot_be_asked(library: Library, searcher: Searcher, store: str) -> None:
    for text in ("", " \n\t", "\u2003"):
        with pytest.raises(QueryInvalid) as invalid:
            found(searcher, store, text)
        assert invalid.value.param == "query"
    with pytest.raises(QueryInvalid, match="hybrid, dense, lexical") as invalid:
        found(searcher, store, "rent", ranker="rerank")
    assert invalid.value.param == "ranking_options.ranker"


def test_vectors_of_another_embedder_are_not_mixed(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, TEXTS, fingerprint=OTHER)
    with pytest.raises(OtherEmbedder, match="manyhats stores reembed"):
        found(searcher, store, "When is the rent due?", ranker="dense")
    hits = found(searcher, store, "When is the rent due?")
    assert hits[0].passage.text == RENT
    assert hits[0].dense is None
    assert hits[0].score == hits[0].lexical
    own = library.store()
    library.put(own, [NOTICE])
    mixed = found(searcher, [store, own], "rent and notice")
    assert {hit.dense is None for hit in mixed if hit.passage.store_id == store} == {True}
    assert {hit.dense is None for hit in mixed if hit.passage.store_id == own} == {False}


def test_a_failure_inside_is_told(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, TEXTS)
    assert found(searcher, store, "rent")
    with pytest.raises(SearchFailed, match="ValueError"):
        searcher.search([store], "rent", np.ones(7, dtype=np.float32), SearchOptions())  # not as long as the others


class Backwards:
    """Finds the passage best that comes last."""

    def scores(self, question: str, passages: list[str]) -> np.ndarray:
        return np.linspace(0.1, 0.9, len(passages))


def test_a_reranker_has_the_last_word(library: Library, store: str) -> None:
    library.put(store, TEXTS)
    searcher = library.searcher(reranker=Backwards())
    before = found(searcher, store, "When is the rent due?")
    after = found(searcher, store, "When is the rent due?", ranker="rerank", max_num_results=2)
    assert texts_of(after) == texts_of(before)[::-1][:2]
    assert after[0].score == pytest.approx(0.9)
    every = found(searcher, store, "When is the rent due?", ranker="rerank", score_threshold=0.8)
    assert len(every) == 1
    searcher.close()


def test_details_say_what_answers(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, [RENT, NOTICE])
    library.put(store, ["O aluguel vence no dia primeiro."], language="pt")
    details = searcher.details(store)
    assert details["dense"]["kind"] == "exact"
    assert details["dense"]["vectors"] == 3
    assert not details["dense"]["building"]
    assert details["lexical"] == {"chunks": 3, "languages": {"en": 2, "pt": 1}}
    assert details["generation"] == library.shelf.stores.get(store).generation


def test_stores_that_were_not_searched_for_longest_leave_memory(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.search.MOST_LOADED", 2)
    searcher = library.searcher(tending=Tending(quiet_seconds=3_600))
    stores = [library.store(str(i)) for i in range(4)]
    for i, store in enumerate(stores):
        library.put(store, [f"passage of store {i}"])
    for _ in range(2):
        for i, store in enumerate(stores):
            assert texts_of(found(searcher, store, "passage")) == [f"passage of store {i}"]
            assert len(searcher._indexes) <= 2
    searcher.close()


def test_a_dropped_store_leaves_nothing_on_the_disk(library: Library, store: str) -> None:
    library.put(store, TEXTS)
    first = library.searcher()
    assert found(first, store, "rent")
    first.close()
    assert (library.folder / store).exists()
    second = library.searcher()
    assert found(second, store, "rent")
    library.shelf.stores.delete(store)
    second.drop(store)
    second.drop("vs_never_seen")
    assert not (library.folder / store).exists()
    with pytest.raises(StoreNotFound):
        found(second, store, "rent")
    second.close()
    assert not (library.folder / store).exists()
    assert [path for path in (library.folder / "live").iterdir() if path.is_dir()] == []


def test_warming_passes_over_what_is_not_there(
    library: Library, searcher: Searcher, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    library.put(store, TEXTS)
    searcher.warm(["vs_none", store])
    assert "vs_none" in caplog.text
    assert searcher.details(store)["dense"]["vectors"] == 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(), min_size=1, max_size=300)
    | st.text("\"'()[]{}^~*?:\\/+-&|!<>= AND OR NOT", min_size=1)
)
def test_every_string_is_a_question(library: Library, searcher: Searcher, text: str) -> None:
    store = library.shelf.stores.find("fuzzed")
    store_id = store[0].id if store else library.store("fuzzed")
    if not store:
        library.put(store_id, TEXTS)
    try:
        hits = found(searcher, store_id, text)
    except QueryInvalid:
        assert not text.strip()
        return
    assert len(hits) == 4
    assert all(0 <= hit.score <= 1 for hit in hits)


def test_a_very_long_question(library: Library, searcher: Searcher, store: str) -> None:
    library.put(store, TEXTS)
    assert found(searcher, store, RENT + " xyzzy" * 20_000, ranker="lexical")[0].passage.text == RENT
    words = " ".join(f"w{i}" for i in range(20_000))
    assert found(searcher, store, f"rent {words}", ranker="lexical")[0].passage.text == RENT
    assert len(found(searcher, store, "x" * 100_000)) == 4


def test_searches_in_threads_while_files_come_and_go(library: Library, searcher: Searcher, store: str) -> None:
    kept = library.put(store, [RENT, NOTICE])
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                for ranker in ("hybrid", "dense", "lexical"):
                    hits = found(searcher, store, "the rent of the tenant", ranker=ranker, max_num_results=20)
                    texts = texts_of(hits)
                    assert {RENT, NOTICE} <= set(texts)
                    assert len({hit.passage.chunk_id for hit in hits}) == len(hits)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(12):
        file = library.put(store, [f"the rent of tenant number {i}", f"tenant {i} pays"])
        assert any(f"number {i}" in text for text in texts_of(found(searcher, store, f"tenant number {i}")))
        if i % 2:
            library.shelf.attachments.detach(store, file.file_id)
            assert not any(hit.passage.file_id == file.file_id for hit in found(searcher, store, f"tenant number {i}"))
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert kept.file_id in {hit.passage.file_id for hit in found(searcher, store, "rent", max_num_results=50)}


@pytest.mark.parametrize("ranker", ["hybrid", "lexical"])
def test_words_looked_up_ahead_are_those_of_the_search(
    library: Library, searcher: Searcher, store: str, ranker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.put(store, [RENT, NOTICE])
    options = SearchOptions(ranker=ranker)  # type: ignore[arg-type]
    vector = embedded("rent")
    before = searcher.search([store], "rent", vector, options)
    library.put(store, ["Rent again."])
    searcher.ahead([store], "rent", options)
    asked = []
    looked_up = LexicalIndex._search
    monkeypatch.setattr(LexicalIndex, "_search", lambda *given: asked.append(given) or looked_up(*given))
    found = searcher.search([store], "rent", vector, options)
    assert not asked
    assert len(found) == len(before) + 1  # and a change is never missed for it


def test_looking_up_ahead_leaves_telling_to_the_search(searcher: Searcher, store: str) -> None:
    searcher.ahead(["vs_none", store], "rent", SearchOptions())
