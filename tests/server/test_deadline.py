"""Time that is up interrupts the wait for a frame, and is told apart from a client that left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from server.deadline import timed_frames
from server.engine.base import Answer, EngineUnavailable, Usage
from server.errors import ApiError
from server.services import Services


def _answer(frames: AsyncGenerator[str, None]) -> Answer:
    return Answer(body=None, frames=frames, usage=Usage)


async def _endless(closed: asyncio.Event) -> AsyncGenerator[str, None]:
    try:
        yield "first"
        await asyncio.Event().wait()
    finally:
        closed.set()


async def test_a_frame_that_does_not_come_in_time_is_a_504(services: Services) -> None:
    closed = asyncio.Event()
    deadline = asyncio.get_running_loop().time() + 0.02
    with services.metrics.request("") as meter:
        frames = timed_frames(_answer(_endless(closed)), meter, deadline, services)
        assert await anext(frames) == "first"
        with pytest.raises(ApiError) as late:
            await anext(frames)
    assert (late.value.status, late.value.code) == (504, "timeout")
    assert closed.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_time_spent_at_the_client_is_noticed_at_the_next_frame(services: Services) -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    with services.metrics.request("") as meter:
        frames = timed_frames(_answer(_endless(closed)), meter, loop.time() + 0.01, services)
        await anext(frames)
        passed = asyncio.Event()
        loop.call_later(0.03, passed.set)
        await passed.wait()  # not interrupted: this wait is not the engine's
        with pytest.raises(ApiError, match="longer than"):
            await anext(frames)


async def test_a_cancelled_reader_stays_cancelled(services: Services) -> None:
    closed, reading = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        deadline = asyncio.get_running_loop().time() + 60
        with services.metrics.request("") as meter:
            async for _ in timed_frames(_answer(_endless(closed)), meter, deadline, services):
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


async def test_a_dead_engine_is_counted_and_told(services: Services) -> None:
    async def dying() -> AsyncGenerator[str, None]:
        yield "first"
        raise EngineUnavailable("dead")

    with services.metrics.request("") as meter:
        frames = timed_frames(_answer(dying()), meter, None, services)
        await anext(frames)
        with pytest.raises(EngineUnavailable):
            await anext(frames)
    told = services.metrics.render(b"", str).decode()
    assert 'manyhats_errors_total{adapter="demo",type="engine_unavailable"} 1.0' in told
