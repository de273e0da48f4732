from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request as Incoming
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from deploy.ray.calls import call
from deploy.ray.messages import Start
from tests.deploy.ray.requests import request


async def parts(*given: bytes) -> AsyncIterator[bytes]:
    for part in given:
        yield part


async def test_a_whole_answer():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        incoming = Incoming(scope, receive)
        told = {"body": (await incoming.body()).decode(), "q": incoming.query_params["q"]}
        await JSONResponse(told, 201)(scope, receive, send)

    start, *rest = [part async for part in call(app, request(), parts(b"one ", b"two"))]
    assert isinstance(start, Start)
    assert start.status == 201
    assert (b"content-type", b"application/json") in start.headers
    assert b"".join(rest) == b'{"body":"one two","q":"1"}'  # type: ignore[arg-type]  # bytes after the start


async def test_each_part_of_a_stream_comes_when_it_is_sent():
    gate = asyncio.Event()

    async def frames() -> AsyncIterator[bytes]:
        yield b"first"
        await gate.wait()
        yield b"second"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(frames(), media_type="text/event-stream")(scope, receive, send)

    answer = call(app, request(), parts())
    start = await anext(answer)
    assert isinstance(start, Start)
    assert start.is_event_stream
    assert await anext(answer) == b"first"  # the gate is closed: nothing is waited for
    gate.set()
    assert [part async for part in answer] == [b"second"]


@pytest.mark.parametrize("before", ["the start", "the end"])
async def test_closing_it_is_a_client_that_goes_away(before: str):
    disconnected = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        if before == "the end":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["type"] == "http.disconnect"
        disconnected.set()

    answer = call(app, request(), parts())
    if before == "the end":
        assert isinstance(await anext(answer), Start)
        await answer.aclose()
    else:
        reading = asyncio.create_task(anext(answer))  # type: ignore[arg-type]  # anext of a generator is a coroutine
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert disconnected.is_set()


async def test_a_stream_that_nobody_reads_is_ended_also_while_it_waits_for_room():
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended.set()

    answer = call(app, request(), parts())
    await anext(answer)
    await answer.aclose()
    assert ended.is_set()


async def test_what_it_raises_before_its_answer_comes_through():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await anext(call(app, request(), parts()))


async def test_an_answer_that_breaks_off_raises():
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("broken")

    answer = call(app, request(), parts())
    assert isinstance(await anext(answer), Start)
    assert await anext(answer) == b"half"
    with pytest.raises(ValueError, match="broken"):
        await anext(answer)


async def test_what_follows_the_answer_is_done_before_the_call_is_over():
    done: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({})(scope, receive, send)
        await asyncio.sleep(0)
        done.append("logged")

    async for _ in call(app, request(), parts()):
        pass
    assert done == ["logged"]
