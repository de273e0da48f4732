"""What a request holds is given back however it ends, and what it has used is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from server.answering import estimated_tokens, start
from server.auth import LOCAL
from server.deadline import timed_frames
from server.engine.base import EngineRefused, EngineUnavailable
from server.engine.fake import FakeEngine
from server.errors import ApiError
from server.services import Services
from server.storage.callers import Caller

LIMITED = Caller(key_id="k", name="k", role="inference", owner="k", models=("*",), tokens_per_minute=1000)
STREAM = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_stream_that_was_broken_off_is_paid_for(services: Services) -> None:
    plan = services.catalogue.plan(STREAM, LIMITED)
    async with AsyncExitStack() as stack:
        answer, meter, ticket = await start(STREAM, plan, "chat", LIMITED, services, stack)
        frames = timed_frames(answer, meter, None, services)
        for _ in range(3):
            await anext(frames)
        await frames.aclose()
    async with services.admission.enter(LIMITED, 1) as ticket:
        left = int(ticket.headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - 1 - estimated_tokens(STREAM) - 3


async def test_a_stream_that_ended_is_settled_by_its_usage(services: Services) -> None:
    plan = services.catalogue.plan(STREAM, LIMITED)
    async with AsyncExitStack() as stack:
        answer, meter, _ = await start(STREAM, plan, "chat", LIMITED, services, stack)
        async for _ in timed_frames(answer, meter, None, services):
            pass
        usage = answer.usage()
    async with services.admission.enter(LIMITED, 1) as ticket:
        left = int(ticket.headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - 1 - usage.prompt_tokens - usage.completion_tokens


async def test_a_stream_that_nobody_read_is_stopped(services: Services, engine: FakeEngine) -> None:
    plan = services.catalogue.plan(STREAM, LOCAL)
    async with AsyncExitStack() as stack:
        answer, _, _ = await start(STREAM, plan, "chat", LOCAL, services, stack)
        assert answer.frames is not None
        await anext(answer.frames)
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
            await start(body, plan, "chat", LOCAL, services, stack)
    folder = services.registry.path(version)
    await services.slots.retire(services.registry.remove("legal"))
    assert not folder.exists()


def _nothing_is_held(services: Services) -> None:
    assert services.admission.running == 0
    assert not services.slots.occupancy().uses
    assert not services.slots.occupancy().waiting
