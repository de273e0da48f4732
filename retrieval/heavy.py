"""Where the heavy work of ingestion is done: a thread of its own, so that the caller hears what happens meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, wait
from typing import TypeVar

T = TypeVar("T")

TICK_SECONDS = 0.2  # how soon being told to end is heard
MEANWHILE_SECONDS = 10.0  # well within a lease


class Stopped(Exception):
    """The process was told to end; what was begun is given back to the queue."""


class Heavy:
    """One thread for reading, splitting and embedding: of low priority, say.

    The database is never waited for in it, because who holds the database's lock must not be slow.
    """

    def __init__(self, pool: Executor | None = None, stop: threading.Event | None = None) -> None:
        """Without a pool the work is done by the caller."""
        self._pool = pool
        self._stop = stop or threading.Event()

    def check(self) -> None:
        """Raises Stopped when the process was told to end."""
        if self._stop.is_set():
            raise Stopped

    def run(self, work: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
        """What `work` returns or raises; `meanwhile` is called every ten seconds. Raises Stopped without waiting."""
        self.check()
        if self._pool is None:
            return work()
        future = self._pool.submit(work)
        called_at = time.monotonic()
        while not wait([future], timeout=TICK_SECONDS).done:
            self.check()
            if time.monotonic() - called_at > MEANWHILE_SECONDS:
                called_at = time.monotonic()
                meanwhile()
        return future.result()
