"""The one bridge from the event loop to synchronous code: `adapters/`, `retrieval/` and the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_in(pool: Executor | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in the named pool (None: the loop's own) with this task's context; returns what it returns."""
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(pool, partial(context.run, function, *args, **kwargs))
