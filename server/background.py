"""Tasks that outlive the request that began them: background responses, remote adapters. All end with the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Background:
    """Named tasks; a name is free again when its task has ended."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it; what it raises is logged, since nobody waits for it."""
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._ended)
        return task

    def cancel(self, name: str) -> bool:
        """Whether there was such a task to cancel."""
        task = self._tasks.get(name)
        return task is not None and task.cancel()

    def task(self, name: str) -> asyncio.Task[None] | None:
        """The one that has the name now."""
        return self._tasks.get(name)

    def names(self) -> list[str]:
        """Of the tasks that have not ended."""
        return list(self._tasks)

    async def wait(self, name: str) -> None:
        """Until that task has ended, if there is one."""
        task = self._tasks.get(name)
        if task is not None:
            await asyncio.wait([task])

    async def drain(self, seconds: float) -> None:
        """Give running tasks this long, then cancel what is left."""
        tasks = list(self._tasks.values())
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=seconds)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._tasks.get(task.get_name()) is task:
            del self._tasks[task.get_name()]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background task %r failed", task.get_name(), exc_info=error)
