"""What a request holds is given back however it ends, and what it has used is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from retrieval.errors import SearchFailed, StoreExpired
from retrieval.vector_store import VectorStore
from server.answering import cited_body, cited_frames, estimated_tokens, start
from server.auth import LOCAL
from server.engine.base import EngineRefused, EngineUnavailable
from server.engine.fake import FakeEngine
from server.errors import ApiError
from server.grounding import NONE_FOUND
from server.services import Services
from server.storage.callers import Caller

LIMITED = Caller(key_id="k", name="k", role="inference", owner="k", models=("*",), tokens_per_minute=1000)
STREAM = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
PAYING = replace(LIMITED, role="admin")
ASKING = {"retrieval": {"vector_store_ids": ["papers"], "ranking_options": {"ranker": "lexical"}}}


async def test_a_stream_that_was_broken_off_is_paid_for(services: Services) -> None:
    plan = services.catalogue.plan(STREAM, LIMITED)
    async with AsyncExitStack() as stack:
        begun = await start(STREAM, plan, "chat", LIMITED, services, stack, link=str)
        frames = cited_frames(begun, "chat", services)
        for _ in range(3):
            await anext(frames)
        await frames.aclose()
    async with services.admission.enter(LIMITED, 1) as ticket:
        left = int(ticket.headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - 1 - estimated_tokens(STREAM) - 3


async def test_a_stream_that_ended_is_settled_by_its_usage(services: Services) -> None:
    plan = services.catalogue.plan(STREAM, LIMITED)
    async with AsyncExitStack() as stack:
        begun = await start(STREAM, plan, "chat", LIMITED, services, stack, link=str)
        async for _ in cited_frames(begun, "chat", services):
            pass
        usage = begun.answer.usage()
    async with services.admission.enter(LIMITED, 1) as ticket:
        left = int(ticket.headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - 1 - usage.prompt_tokens - usage.completion_tokens


async def test_a_stream_that_nobody_read_is_stopped(services: Services, engine: FakeEngine) -> None:
    plan = services.catalogue.plan(STREAM, LOCAL)
    async with AsyncExitStack() as stack:
        begun = await start(STREAM, plan, "chat", LOCAL, services, stack, link=str)
        assert begun.answer.frames is not None
        await anext(begun.answer.frames)
    assert len(engine.aborted) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [EngineRefused("no"), EngineUnavailable("dead"), RuntimeError("bug")])
async def test_failures_give_everything_back(
    services: Services,
    engine: FakeEngine,
    http: httpx2.AsyncClient,
    add: Callable[..., Any],
    failure: Exception,
    stream: bool,
) -> None:
    add("legal")
    engine.fails_with = failure
    body = {**STREAM, "model": "legal", "stream": stream}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == {"no": 400, "dead": 503, "bug": 500}[str(failure)]
    _nothing_is_held(services)


async def test_time_that_runs_out_gives_everything_back(
    services: Services, engine: FakeEngine, http: httpx2.AsyncClient, add: Callable[..., Any]
) -> None:
    add("legal")
    engine.gate.clear()
    asking = asyncio.create_task(http.post("/v1/chat/completions", json={**STREAM, "model": "legal"}))
    await engine.asked.wait()
    assert services.admission.running == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    _nothing_is_held(services)


async def test_a_refused_caller_leaves_no_claim(services: Services, add: Callable[..., Any]) -> None:
    version = add("legal")
    body = {**STREAM, "model": "legal"}
    plan = services.catalogue.plan(body, LOCAL)
    services.admission.start_draining()
    with pytest.raises(ApiError, match="shutting down"):
        async with AsyncExitStack() as stack:
            await start(body, plan, "chat", LOCAL, services, stack, link=str)
    folder = services.registry.path(version)
    await services.slots.retire(services.registry.remove("legal"))
    assert not folder.exists()


@pytest.fixture
def papers(services: Services) -> VectorStore:
    """A store without files."""
    return services.stores.create(LOCAL.owner, name="papers")


@pytest.mark.usefixtures("papers")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (SearchFailed("the index is damaged"), 503, "search_failed"),
        (StoreExpired("the store 'papers' has expired"), 400, "vector_store_expired"),
        (RuntimeError("bug"), 503, "search_failed"),
    ],
)
async def test_a_failed_search_is_an_error_and_gives_everything_back(
    services: Services,
    engine: FakeEngine,
    http: httpx2.AsyncClient,
    add: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    status: int,
    code: str,
    stream: bool,
) -> None:
    def fail(*_: object) -> None:
        raise failure

    add("legal")
    monkeypatch.setattr(services.searcher, "search", fail)
    body = {**STREAM, **ASKING, "model": "legal", "stream": stream}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    answer = await http.post("/v1/messages", json={**body, "max_tokens": 9})
    assert answer.status_code == status, answer.text
    _nothing_is_held(services)
    assert not engine.calls


async def test_a_store_that_is_not_there_is_a_404_in_every_dialect(http: httpx2.AsyncClient) -> None:
    for path, body in (
        ("chat/completions", STREAM),
        ("completions", {"model": "demo", "prompt": "hi"}),
        ("messages", {**STREAM, "max_tokens": 9}),
        ("responses", {"model": "demo", "input": "hi"}),
    ):
        answer = await http.post(f"/v1/{path}", json={**body, **ASKING})
        assert answer.status_code == 404, answer.text
        assert "papers" in answer.text


@pytest.mark.usefixtures("papers")
async def test_a_client_that_leaves_during_the_search_is_not_answered(
    services: Services,
    engine: FakeEngine,
    http: httpx2.AsyncClient,
    add: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add("legal")
    searching, go_on = asyncio.Event(), threading.Event()
    loop, search = asyncio.get_running_loop(), services.searcher.search

    def search_slowly(*asked: Any) -> Any:
        loop.call_soon_threadsafe(searching.set)
        assert go_on.wait(5)
        return search(*asked)

    monkeypatch.setattr(services.searcher, "search", search_slowly)
    asking = asyncio.create_task(http.post("/v1/chat/completions", json={**STREAM, **ASKING, "model": "legal"}))
    await searching.wait()
    assert services.admission.running == 1
    assert not services.slots.occupancy().uses, "a slot is not held while nothing is computed in it"
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    go_on.set()
    _nothing_is_held(services)
    assert not engine.calls


@pytest.mark.usefixtures("papers")
async def test_a_search_counts_into_the_time_that_an_answer_may_take(
    services: Services, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(services.searcher, "search", lambda *_: go_on.wait(5) and [])
    object.__setattr__(services, "settings", services.settings.model_copy(update={"request_timeout_seconds": 0.05}))
    answer = await http.post("/v1/chat/completions", json={**STREAM, **ASKING})
    go_on.set()
    assert answer.status_code == 504
    _nothing_is_held(services)


@pytest.mark.usefixtures("papers")
async def test_a_grounded_stream_that_was_broken_off_is_stopped_and_paid_for_with_its_sources(
    services: Services, engine: FakeEngine
) -> None:
    body = {**STREAM, **ASKING}
    plan = services.catalogue.plan(body, LOCAL)
    async with AsyncExitStack() as stack:
        begun = await start(body, plan, "chat", PAYING, services, stack, link=str)
        frames = cited_frames(begun, "chat", services)
        for _ in range(3):
            await anext(frames)
        await frames.aclose()
    assert len(engine.aborted) == 1
    async with services.admission.enter(PAYING, 1) as ticket:
        left = int(ticket.headers["x-ratelimit-remaining-tokens"])
    grounded = estimated_tokens(engine.calls[-1].body)
    assert grounded > estimated_tokens(body)
    assert left == 1000 - 1 - grounded - 3


@pytest.mark.usefixtures("papers")
async def test_a_grounded_stream_that_nobody_read_is_stopped(services: Services, engine: FakeEngine) -> None:
    body = {**STREAM, **ASKING}
    plan = services.catalogue.plan(body, LOCAL)
    async with AsyncExitStack() as stack:
        begun = await start(body, plan, "chat", LOCAL, services, stack, link=str)
        assert begun.answer.frames is not None
        await anext(begun.answer.frames)
        await cited_frames(begun, "chat", services).aclose()
    assert len(engine.aborted) == 1


@pytest.mark.usefixtures("papers")
async def test_an_engine_that_dies_in_a_grounded_stream_is_told_there(
    http: httpx2.AsyncClient, services: Services, engine: FakeEngine
) -> None:
    engine.fails_with, engine.after = EngineUnavailable("the engine died"), 3
    answer = await http.post("/v1/chat/completions", json={**STREAM, **ASKING})
    assert answer.status_code == 200
    assert '"retrieval"' in answer.text
    assert "the engine died" in answer.text
    _nothing_is_held(services)


@pytest.mark.usefixtures("papers")
async def test_nothing_found_is_said_and_nothing_is_cited(http: httpx2.AsyncClient, engine: FakeEngine) -> None:
    engine.pieces = ("I [1]", " do not know.")
    answer = (await http.post("/v1/chat/completions", json={**STREAM, **ASKING, "stream": False})).json()
    assert answer["choices"][0]["message"]["content"] == "I [1] do not know."
    assert answer["choices"][0]["message"]["annotations"] == []
    assert answer["retrieval"]["sources"] == []
    assert NONE_FOUND in engine.calls[-1].body["messages"][0]["content"]


async def test_without_retrieval_the_engine_s_answer_goes_on_as_it_is(services: Services, engine: FakeEngine) -> None:
    for stream in (False, True):
        body = {**STREAM, "stream": stream}
        plan = services.catalogue.plan(body, LOCAL)
        async with AsyncExitStack() as stack:
            begun = await start(body, plan, "chat", LOCAL, services, stack, link=str)
            assert begun.bibliography is None
            if stream:
                frames = cited_frames(begun, "chat", services)
                assert frames.__name__ == "timed_frames", "no work per frame is added"
                await frames.aclose()
            else:
                assert cited_body(begun, "chat") is begun.answer.body
        assert engine.calls[-1].body == body


def _nothing_is_held(services: Services) -> None:
    assert services.admission.running == 0
    assert not services.slots.occupancy().uses
    assert not services.slots.occupancy().waiting
