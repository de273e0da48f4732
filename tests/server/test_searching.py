"""A search for a caller: rights first, one vector a question, merged by the best score, and failures told as such."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from retrieval.errors import QueryInvalid, SearchFailed, StoreExpired, StoreNotFound
from retrieval.passage import Passage
from retrieval.search import Hit, SearchOptions
from server.auth import LOCAL
from server.searching import search
from server.services import Services
from server.storage.callers import Caller
from server.storage.errors import DatabaseUnavailable

BEN = Caller(key_id="key_ben", name="ben", role="inference", owner="ben")


def hit(chunk_id: int, score: float) -> Hit:
    passage = Passage(
        chunk_id=chunk_id,
        store_id="vs_1",
        file_id="file-1",
        filename="a.txt",
        attributes={},
        position=0,
        text="text",
        page=None,
        heading=(),
        start=0,
        end=4,
        language=None,
        tokens=1,
    )
    return Hit(passage=passage, score=score, dense=score, lexical=None)


class Scripted:
    """A searcher that finds what it was told for each question, and notes how it was asked."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        self.asked: list[tuple[list[str], str, Any, str]] = []
        self.words: list[tuple[list[str], str]] = []

    def ahead(self, store_ids: Sequence[str], text: str, options: SearchOptions) -> None:
        self.words.append((list(store_ids), text))

    def search(self, store_ids: Sequence[str], text: str, vector: Any, options: SearchOptions) -> list[Hit]:
        self.asked.append((list(store_ids), text, vector, threading.current_thread().name))
        found = self.found[text]
        if isinstance(found, Exception):
            raise found
        return list(found)


class Vectors:
    """One number a question: its length."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def vectors(self, texts: Sequence[str]) -> Any:
        self.asked.append(list(texts))
        return np.array([[len(text)] for text in texts], dtype=np.float32)


def scripted(services: Services, found: dict[str, Any]) -> tuple[Any, Scripted, Vectors]:
    searcher, vectors = Scripted(found), Vectors()
    return replace(services, searcher=searcher, query_vectors=vectors), searcher, vectors  # type: ignore[arg-type]


async def test_questions_are_embedded_together_and_merged_by_the_best_score(services: Services) -> None:
    store = services.stores.create("local", name="handbook")
    served, searcher, vectors = scripted(services, {"a": [hit(1, 0.9), hit(2, 0.4)], "bb": [hit(2, 0.8), hit(3, 0.4)]})
    found = await search(served, LOCAL, ["handbook", store.id], ["a", "bb"], SearchOptions(max_num_results=2))
    assert [(one.passage.chunk_id, one.score) for one in found] == [(1, 0.9), (2, 0.8)]
    assert vectors.asked == [["a", "bb"]]
    assert sorted((ids, text, int(vector[0])) for ids, text, vector, _ in searcher.asked) == [
        ([store.id], "a", 1),
        ([store.id], "bb", 2),
    ]
    assert all(thread.startswith("retrieval") for *_, thread in searcher.asked)


async def test_words_are_looked_up_beside_the_embedding(services: Services) -> None:
    store = services.stores.create("local")
    served, searcher, vectors = scripted(services, {"a": [hit(1, 0.5)]})
    looked_up = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def slow(texts: Sequence[str]) -> Any:
        await looked_up.wait()  # for ever, if the words wait for the vectors
        return np.ones((len(texts), 1), dtype=np.float32)

    def ahead(store_ids: Sequence[str], text: str, options: SearchOptions) -> None:
        searcher.words.append((list(store_ids), text))
        loop.call_soon_threadsafe(looked_up.set)

    searcher.ahead, vectors.vectors = ahead, slow  # type: ignore[method-assign]
    await search(served, LOCAL, [store.id], ["a"], SearchOptions())
    assert searcher.words == [([store.id], "a")]
    await search(served, LOCAL, [store.id], ["a"], SearchOptions(ranker="dense"))
    assert len(searcher.words) == 1


async def test_words_need_no_vector(services: Services) -> None:
    store = services.stores.create("local")
    served, searcher, vectors = scripted(services, {"a": [hit(1, 0.5)]})
    assert len(await search(served, LOCAL, [store.id], ["a"], SearchOptions(ranker="lexical"))) == 1
    assert (vectors.asked, searcher.asked[0][2]) == ([], None)


async def test_nothing_is_embedded_or_searched_without_the_right_to_every_store(services: Services) -> None:
    mine, theirs = services.stores.create("ben"), services.stores.create("ana")
    served, searcher, vectors = scripted(services, {"a": []})
    with pytest.raises(StoreNotFound):
        await search(served, BEN, [mine.id, theirs.id], ["a"], SearchOptions())
    assert (searcher.asked, vectors.asked) == ([], [])


@pytest.mark.parametrize("queries", [[], [""], ["a", " \n"]])
async def test_an_empty_question_is_refused(services: Services, queries: list[str]) -> None:
    store = services.stores.create("local")
    with pytest.raises(QueryInvalid) as caught:
        await search(services, LOCAL, [store.id], queries, SearchOptions())
    assert caught.value.param == "query"


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (StoreExpired("over"), StoreExpired),
        (DatabaseUnavailable("busy"), DatabaseUnavailable),
        (MemoryError("/secret"), SearchFailed),
        (KeyError("oh"), SearchFailed),
    ],
)
async def test_what_fails_is_an_error_and_never_an_empty_list(
    services: Services, raised: Exception, told: type[Exception]
) -> None:
    store = services.stores.create("local")
    served, _, _ = scripted(services, {"a": raised, "b": [hit(1, 0.5)]})
    with pytest.raises(told) as caught:
        await search(served, LOCAL, [store.id], ["b", "a"], SearchOptions())
    assert "secret" not in str(caught.value)


async def test_a_database_that_goes_away_within_the_search_is_told_as_one(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: object) -> None:
        raise DatabaseUnavailable("gone")

    store = services.stores.create("local")
    monkeypatch.setattr(services.searcher._changes, "states", gone)
    with pytest.raises(DatabaseUnavailable):
        await search(services, LOCAL, [store.id], ["rent"], SearchOptions(ranker="lexical"))


async def test_only_what_was_searched_is_noted_as_used(services: Services) -> None:
    store = services.stores.create("local")
    noted: list[list[str]] = []

    class Use:
        def note(self, store_ids: Any) -> None:
            noted.append(list(store_ids))

    served, _, _ = scripted(services, {"a": [], "b": SearchFailed("no")})
    served = replace(served, store_use=Use())
    await search(served, LOCAL, [store.id], ["a"], SearchOptions())
    with pytest.raises(SearchFailed):
        await search(served, LOCAL, [store.id], ["b"], SearchOptions())
    assert noted == [[store.id]]
