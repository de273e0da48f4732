"""Synchronous code off the event loop: in the named pool, with the caller's context, its errors as they are."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from server.threads import run_in

NAME: ContextVar[str] = ContextVar("name")


async def test_it_runs_in_the_pool_with_the_callers_context() -> None:
    NAME.set("mine")
    with ThreadPoolExecutor(1, thread_name_prefix="storage") as pool:
        thread, name = await run_in(pool, lambda: (threading.current_thread().name, NAME.get()))
    assert (thread, name) == ("storage_0", "mine")


async def test_what_it_sets_stays_its_own() -> None:
    NAME.set("mine")
    await run_in(None, NAME.set, "theirs")
    assert NAME.get() == "mine"


async def test_requests_do_not_see_each_others_context() -> None:
    both = threading.Barrier(2)

    def read() -> str:
        both.wait(5)
        return NAME.get()

    async def ask(name: str) -> str:
        NAME.set(name)
        return await run_in(None, read)

    assert await asyncio.gather(ask("ann"), ask("bob")) == ["ann", "bob"]


async def test_errors_come_through() -> None:
    with pytest.raises(ValueError, match="'x'"):
        await run_in(None, int, "x")


async def test_the_loop_goes_on_meanwhile() -> None:
    go_on = threading.Event()
    waiting = asyncio.create_task(run_in(None, go_on.wait, 5))
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    assert await waiting
