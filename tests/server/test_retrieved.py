"""Retrieval for a request, from what it asks for to the body that the engine gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from retrieval.errors import OtherEmbedder, QueryInvalid, SearchFailed, StoreNotFound
from retrieval.passage import Passage
from retrieval.search import Hit
from server.assistants import Plan, dress
from server.auth import LOCAL
from server.engine.base import Dialect
from server.engine.fake import FakeEngine
from server.errors import ApiError, to_api_error
from server.grounding import HEADER, NONE_FOUND, SEARCH_FAILED
from server.retrieved import NO_WORDS, Retrieved, retrieve
from server.services import Services
from server.storage.assistant import Assistant
from server.storage.errors import DatabaseUnavailable

BASE = Plan(public_name="demo", version=None, assistant=None)
ASKED = {"retrieval": {"vector_store_ids": ["vs_1"]}}
QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "When is the rent due?"}], "max_tokens": 100}
BODIES: dict[Dialect, dict[str, Any]] = {
    "chat": QUESTION,
    "messages": QUESTION,
    "responses": {"input": "When is the rent due?", "max_output_tokens": 100},
    "completions": {"prompt": "When is the rent due?", "max_tokens": 100},
}
DIALECTS = pytest.mark.parametrize("dialect", BODIES)


def _hit(number: int, text: str) -> Hit:
    passage = Passage(
        chunk_id=number,
        store_id="vs_1",
        file_id="file-1",
        filename="lease.pdf",
        attributes={"url": "https://example.com/lease"},
        position=number,
        text=text,
        page=number + 1,
        heading=("Rent",),
        start=100 * number,
        end=100 * number + len(text),
        language="en",
        tokens=5,
    )
    return Hit(passage=passage, score=0.75, dense=0.5, lexical=None)


HITS = [_hit(1, "The rent is due on the first."), _hit(0, "This is a lease [1].")]


class Search:
    """In the place of the search: gives its hits or fails, and remembers what it was asked."""

    def __init__(self, hits: Sequence[Hit] = HITS, failure: Exception | None = None) -> None:
        self.hits, self.failure = hits, failure
        self.calls: list[tuple[Any, ...]] = []

    async def __call__(
        self, services: Any, caller: Any, store_ids: Any, queries: Any, options: Any, *, assistant: Any
    ) -> list[Hit]:
        self.calls.append((caller, tuple(store_ids), list(queries), options, assistant))
        if self.failure is not None:
            raise self.failure
        return list(self.hits)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Search:
    search = Search()
    monkeypatch.setattr("server.retrieved.search", search)
    return search


async def _found(
    body: dict[str, Any], services: Services, dialect: Dialect = "chat", plan: Plan = BASE
) -> tuple[dict[str, Any], Retrieved]:
    forwarded, found = await retrieve(body, plan, dialect, LOCAL, services)
    assert found is not None
    assert "retrieval" not in forwarded
    return forwarded, found


def _said(body: dict[str, Any], place: int = -1) -> str:
    said = body.get("prompt") or body.get("input") or body["messages"][place]["content"]
    assert isinstance(said, str)
    return said


@DIALECTS
async def test_a_request_is_answered_from_sources(dialect: Dialect, services: Services, search: Search) -> None:
    forwarded, found = await _found({**BODIES[dialect], **ASKED}, services, dialect)
    said = _said(forwarded)
    assert said.startswith(HEADER)
    assert said.index("This is a lease ⟦1⟧.") < said.index("[2] lease.pdf, page 2") < said.index("When is the rent")
    assert found.queries == ("When is the rent due?",)
    assert [source.hit for source in found.sources] == [HITS[1], HITS[0]]
    caller, stores, queries, options, assistant = search.calls[0]
    assert (caller, stores, queries, assistant) == (LOCAL, ("vs_1",), ["When is the rent due?"], None)
    assert options == found.options


@DIALECTS
async def test_a_request_that_asks_for_nothing_is_not_touched(
    dialect: Dialect, services: Services, search: Search
) -> None:
    assert await retrieve(BODIES[dialect], BASE, dialect, LOCAL, services) == (BODIES[dialect], None)
    switched_off = {**BODIES[dialect], "retrieval": None}
    assert await retrieve(switched_off, BASE, dialect, LOCAL, services) == (BODIES[dialect], None)
    assert search.calls == []


async def test_the_object_of_answers(services: Services, search: Search) -> None:
    search.hits = [*HITS, _hit(2, HITS[0].passage.text)]
    _, found = await _found({**QUESTION, **ASKED}, services)
    told = found.as_object({2})
    assert told == {
        "query": "When is the rent due?",
        "queries": ["When is the rent due?"],
        "sources": [
            {
                "number": 1, "file_id": "file-1", "filename": "lease.pdf", "chunk_id": 0, "page": 1,
                "heading": ["Rent"], "start": 0, "end": 20, "score": 0.75, "text": "This is a lease [1].",
                "cited": False,
            },
            {
                "number": 2, "file_id": "file-1", "filename": "lease.pdf", "chunk_id": 1, "page": 2,
                "heading": ["Rent"], "start": 100, "end": 129, "score": 0.75,
                "text": "The rent is due on the first.", "cited": True,
            },
        ],
        "dropped": [
            {
                "file_id": "file-1", "filename": "lease.pdf", "chunk_id": 2, "page": 3, "score": 0.75,
                "reason": "duplicate",
            }
        ],
        "failed": None,
        "skipped": None,
    }  # fmt: skip  # one field per line would hide the shape
    assert all("cited" not in source for source in found.as_object(None)["sources"])


async def test_in_a_loop_of_tools_the_sources_stay_in_the_user_s_turn(services: Services, search: Search) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    loop = [
        *QUESTION["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "12:00"},
    ]
    first, _ = await _found({**QUESTION, **ASKED}, services)
    forwarded, _ = await _found({**QUESTION, **ASKED, "messages": loop}, services)
    assert forwarded["messages"] == [*first["messages"], *loop[1:]]
    assert search.calls[0] == search.calls[1]


async def test_a_follow_up_is_searched_with_what_it_refers_to(services: Services, search: Search) -> None:
    turns = [
        *QUESTION["messages"],
        {"role": "assistant", "content": "On the first."},
        {"role": "user", "content": [{"type": "text", "text": "And the deposit?"}]},
    ]
    forwarded, found = await _found({**QUESTION, **ASKED, "messages": turns}, services)
    assert found.queries == ("rent due And the deposit?",)
    assert forwarded["messages"][:2] == turns[:2]
    assert forwarded["messages"][2]["content"][0]["text"].endswith('"""\n\nAnd the deposit?')


async def test_the_model_may_rewrite_the_question(services: Services, search: Search, engine: FakeEngine) -> None:
    turns = [*QUESTION["messages"], {"role": "assistant", "content": "On the first."}, *QUESTION["messages"]]
    body = {**QUESTION, "messages": turns, "retrieval": {"vector_store_ids": ["vs_1"], "rewrite_query": True}}
    _, found = await _found(body, services)
    assert found.queries == ("the rent is due base",)  # what the engine answers
    assert len(engine.calls) == 1


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be kind."}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [{"role": "user", "content": ""}],
        [],
        "odd",
        None,
    ],
)
async def test_without_words_nothing_is_searched(messages: Any, services: Services, search: Search) -> None:
    if messages == "odd":
        messages = {"role": "user"}
    forwarded, found = await _found({"messages": messages, **ASKED}, services)
    assert forwarded == {"messages": messages}
    assert (found.queries, found.sources, found.skipped) == ((), (), NO_WORDS)
    assert search.calls == []


async def test_a_question_that_cannot_be_searched_for_is_no_error(services: Services, search: Search) -> None:
    search.failure = QueryInvalid("no words")
    forwarded, found = await _found({**QUESTION, **ASKED}, services)
    assert forwarded == QUESTION
    assert found.as_object(None)["skipped"] == "no words"


async def test_nothing_found_is_told_to_the_model(services: Services, search: Search) -> None:
    search.hits = []
    forwarded, found = await _found({**QUESTION, **ASKED}, services)
    assert _said(forwarded) == f"{NONE_FOUND}\n\nWhen is the rent due?"
    assert found.as_object(())["sources"] == []


@pytest.mark.parametrize("failure", [SearchFailed("the index is gone"), DatabaseUnavailable("no file")])
@DIALECTS
async def test_a_failed_search_is_an_error_or_said_by_a_response(
    dialect: Dialect, failure: Exception, services: Services, search: Search
) -> None:
    search.failure = failure
    body = {**BODIES[dialect], **ASKED}
    if dialect != "responses":
        with pytest.raises(type(failure)):
            await retrieve(body, BASE, dialect, LOCAL, services)
        assert to_api_error(failure).status >= 500
        return
    forwarded, found = await _found(body, services, dialect)
    assert _said(forwarded) == f"{SEARCH_FAILED}\n\nWhen is the rent due?"
    assert found.failure == to_api_error(failure).message
    assert found.as_object(None)["failed"] == found.failure
    assert found.queries == ("When is the rent due?",)


@pytest.mark.parametrize("failure", [StoreNotFound("no such store"), OtherEmbedder("another model")])
@DIALECTS
async def test_what_the_client_can_mend_is_its_error_in_every_dialect(
    dialect: Dialect, failure: Exception, services: Services, search: Search
) -> None:
    search.failure = failure
    with pytest.raises(type(failure)):
        await retrieve({**BODIES[dialect], **ASKED}, BASE, dialect, LOCAL, services)


async def test_a_store_that_is_not_there_is_404(services: Services) -> None:
    with pytest.raises(StoreNotFound):
        await retrieve({**QUESTION, **ASKED}, BASE, "chat", LOCAL, services)
    with pytest.raises(ApiError):
        await retrieve({**QUESTION, "retrieval": {}}, BASE, "chat", LOCAL, services)


@pytest.mark.parametrize("has_system_role", [True, False])
async def test_an_assistant_s_part_is_not_searched_for(
    has_system_role: bool, services: Services, search: Search, engine: FakeEngine
) -> None:
    engine.facts = replace(engine.facts, has_system_role=has_system_role)
    assistant = Assistant(
        id="asst_1",
        name="guide",
        model="demo",
        created_at=0,
        instructions="Talk like a pirate about penguins.",
        tool_resources={"file_search": {"vector_store_ids": ["handbook"]}},
        examples=({"user": "How tall are penguins?", "assistant": "Tall."},),
    )
    plan = Plan(public_name="guide", version=None, assistant=assistant)
    body = {**QUESTION, "messages": [{"role": "system", "content": "Be brief."}, *QUESTION["messages"]]}
    dressed = await dress(body, plan, "chat", engine)
    forwarded, found = await retrieve(dressed, plan, "chat", LOCAL, services, said=body)
    assert found is not None
    assert found.queries == ("When is the rent due?",)
    assert "pirate" in str(forwarded)
    assert search.calls[0][1] == ("handbook",)
    assert search.calls[0][4] is assistant
