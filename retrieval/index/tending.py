"""Work on indexes that no search waits for: building graphs, and writing caches when a store has been quiet."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from retrieval.index.dense_state import GivenUp
from retrieval.index.store_index import StoreIndex

logger = logging.getLogger(__name__)

QUIET_SECONDS = 5.0  # without a change before caches are written
LONGEST_SECONDS = 60.0  # … or this after the first change, whatever comes
RETRY_SECONDS = 60.0
NICENESS = 5  # of the thread; a much lower priority would let it hold the interpreter while it waits for a core


class Tending:
    """One thread of low priority for all stores of a process."""

    def __init__(self, *, quiet_seconds: float = QUIET_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._due: dict[StoreIndex, tuple[float, float]] = {}  # (when, when at the latest)
        self._retired: set[StoreIndex] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def soon(self, index: StoreIndex) -> None:
        """The index has changed: tend it when it has been quiet for a while, or needs it at once."""
        now = self._clock()
        with self._changed:
            _, latest = self._due.get(index, (now, now + LONGEST_SECONDS))
            when = now if index.needs_tending() else min(now + self._quiet_seconds, latest)
            self._due[index] = (when, latest)
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="index-tending", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def retire(self, index: StoreIndex) -> None:
        """The index is not needed for now: write its caches, and let it go."""
        with self._changed:
            self._retired.add(index)
        self.soon(index)

    def forget(self, index: StoreIndex) -> None:
        """The index is gone."""
        with self._changed:
            self._due.pop(index, None)

    def close(self) -> None:
        """Give up what is being built, and end; what was due stays undone."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # on Linux, of this thread alone
        while (index := self._next()) is not None:
            try:
                if index in self._retired:
                    self._retired.discard(index)
                    index.save()
                    index.close()
                    continue
                index.tend(lambda: self._stopping)
                index.save()
            except GivenUp:
                return
            except Exception:
                logger.exception("the index of %s could not be tended; trying again", index.store_id)
                with self._changed:
                    again = self._clock() + RETRY_SECONDS
                    self._due.setdefault(index, (again, again))
                continue
            if index.needs_tending():
                self.soon(index)

    def _next(self) -> StoreIndex | None:
        """The index that is due next, when it is due; None at the end."""
        with self._changed:
            while not self._stopping:
                if not self._due:
                    self._changed.wait()
                    continue
                index = min(self._due, key=lambda one: self._due[one][0])
                wait = self._due[index][0] - self._clock()
                if wait <= 0:
                    del self._due[index]
                    return index
                self._changed.wait(wait)
        return None
