"""Files of adapter versions that were removed while several servers are at work: deleted when none can need them.

A server may be answering from a version that was removed through another, and its engine dies when the files vanish. So
they go only after nobody has pointed to them for longer than any request may take. Each server counts for itself, and
whoever has counted to the end deletes them.

A version may come and go between two looks, and be answered from meanwhile. It leaves no row, but the number that it
was given is missing: then all counts begin anew, because nobody can tell whose files those were.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy import Connection

from adapters import ledger, tables, upkeep
from adapters.ports import Store
from adapters.shelf import Shelf
from server.storage.backup import schema

logger = logging.getLogger(__name__)

LOOK_SECONDS = 300.0  # a look lists a bucket


class Leftovers:
    """Looks at the same thing, the first and the last far enough apart. For one thread at a time."""

    def __init__(
        self, database: Store, shelf: Shelf, *, wait_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """wait_seconds: after which no request can still be running that ran before."""
        self._database = database
        self._shelf = shelf
        self.wait_seconds = wait_seconds
        self._clock = clock
        self._unclaimed_since: dict[str, float] = {}  # by digest
        self._last_given = 0  # the largest number of a version at the last look
        self._look_at = float("-inf")

    def look(self) -> list[str]:
        """Do what is due, every five minutes; returns the digests whose files were deleted."""
        now = self._clock()
        if now < self._look_at:
            return []
        there = set(self._shelf.digests())
        with self._database.write() as connection:
            ledger.lock(connection)  # numbers are given out before their rows can be seen
            unclaimed = there - ledger.digests(connection)
            given = _last_given(connection)
            n_gone = given - self._last_given - ledger.n_versions_after(connection, self._last_given)
        before = self._unclaimed_since if n_gone == 0 else {}
        self._last_given = given
        self._unclaimed_since = {digest: before.get(digest, now) for digest in unclaimed}
        due = [digest for digest, since in self._unclaimed_since.items() if since <= now - self.wait_seconds]
        gone = upkeep.delete_unclaimed(
            self._database, self._shelf, due, may_go=lambda connection: _last_given(connection) == given
        )
        if gone:
            logger.info("removed the files of %d adapter versions that nothing needs", len(gone))
        self._look_at = now + LOOK_SECONDS  # not before, so that what failed is done at the next call
        return gone


def _last_given(connection: Connection) -> int:
    return schema.sequences(connection, [tables.versions]).get(tables.versions.name, 0)
