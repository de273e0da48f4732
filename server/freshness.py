"""How old what this process keeps in memory may be: keys, assistants, and what adapters' names mean.

`server.agreement` reads again what others have changed. While the database cannot be read, what is known holds for
`MANYHATS_STALE_SECONDS`; after that nobody is answered, because a key that was revoked meanwhile would still open, and
a name would mean what it meant before.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from server.storage.errors import DatabaseUnavailable


class Freshness:
    """When memory was last known to be what the database says. Any thread may ask."""

    def __init__(self, stale_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._confirmed_at: float | None = None  # nobody follows: a command that works on a data directory alone

    def now(self) -> float:
        """The time, as `confirm` takes it."""
        return self._clock()

    def confirm(self, at: float) -> None:
        """What is in memory was in the database at this time, or later."""
        self._confirmed_at = at

    def is_stale(self) -> bool:
        """Whether nobody may be answered from memory any more."""
        return self._confirmed_at is not None and self._clock() - self._confirmed_at > self._stale_seconds

    def check(self) -> None:
        """Raises DatabaseUnavailable when memory is too old."""
        if self.is_stale():
            raise DatabaseUnavailable(f"the database could not be read for more than {self._stale_seconds:.0f} s")
