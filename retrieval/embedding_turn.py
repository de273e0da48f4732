"""Whose turn it is to compute: one at a time, and who is urgent before all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turn:
    """A lock with two queues."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = False
        self._urgent = 0  # how many such are waiting

    @contextmanager
    def taken(self, *, urgent: bool) -> Iterator[None]:
        """Hold the turn; others than urgent ones wait while any urgent one does."""
        with self._changed:
            self._urgent += urgent
            try:
                self._changed.wait_for(lambda: not self._taken and (urgent or not self._urgent))
                self._taken = True
            finally:
                self._urgent -= urgent
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
