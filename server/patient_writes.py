"""What nobody would write down again, because it was answered before: written also after the database was away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from server.storage.errors import DatabaseUnavailable
from server.threads import run_in

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0


async def write_patiently(
    pool: Executor | None, patience_seconds: float, write: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """What `write` returns, in the named pool; tried again while the database does not answer, for so long.

    write: may have been committed although it raised, and does no harm a second time.
    Raises what it raises, and DatabaseUnavailable when patience is at its end.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_seconds
    is_told = False
    while True:
        try:
            return await run_in(pool, write, *args, **kwargs)
        except DatabaseUnavailable as error:
            if loop.time() >= until:
                raise
            if not is_told:
                logger.warning("a result is kept back until the database answers: %s", error)
            is_told = True
        await asyncio.sleep(AGAIN_SECONDS)
