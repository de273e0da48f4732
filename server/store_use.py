"""Searches move the end of stores that expire after their last use; that is written beside the search, not in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from retrieval.stores import Stores
from server.background import Background
from server.threads import run_in

PAUSE_SECONDS = 30.0  # between two looks at one store: its end is counted in days
MOST_STORES = 10_000  # that are remembered


class StoreUse:
    """Which stores were used when, in this process."""

    def __init__(
        self,
        stores: Stores,
        background: Background,
        pool: Executor,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = stores
        self._background = background
        self._pool = pool
        self._clock = clock
        self._used_at: dict[str, float] = {}

    def note(self, store_ids: Iterable[str]) -> None:
        """These were searched now; call it on the event loop. Returns at once."""
        now = self._clock()
        due = [one for one in store_ids if now - self._used_at.get(one, -PAUSE_SECONDS) >= PAUSE_SECONDS]
        if not due:
            return
        if len(self._used_at) + len(due) > MOST_STORES:
            self._used_at.clear()
        self._used_at.update(dict.fromkeys(due, now))
        self._background.start(f"use of {due[0]}", run_in(self._pool, self._touch, due))

    def _touch(self, store_ids: list[str]) -> None:
        for store_id in store_ids:
            self._stores.touch(store_id)
