"""Tasks that nobody waits for: named, cancelled by name, logged when they fail, ended with the server."""

from __future__ import annotations

import asyncio

import pytest

from server.background import Background


async def test_a_task_is_cancelled_by_its_name() -> None:
    background, ended = Background(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    background.start("one", work())
    await asyncio.sleep(0)
    assert background.names() == ["one"]
    assert background.task("one") is not None
    assert background.cancel("one")
    await background.wait("one")
    assert background.names() == []
    assert background.task("one") is None
    assert ended.is_set()
    assert not background.cancel("one")
    assert not background.cancel("two")


async def test_a_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()

    async def work() -> None:
        raise RuntimeError("no such luck")

    background.start("one", work())
    await background.wait("one")
    await asyncio.sleep(0)
    assert "no such luck" in caplog.text


async def test_draining_waits_and_then_cancels() -> None:
    background, go, done = Background(), asyncio.Event(), []

    async def quick() -> None:
        await go.wait()
        done.append("quick")

    async def endless() -> None:
        await asyncio.Event().wait()

    background.start("quick", quick())
    background.start("endless", endless())
    go.set()
    await background.drain(0.05)
    assert done == ["quick"]
    assert not background.cancel("endless")
