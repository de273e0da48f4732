"""`python -m deploy.ray.upkeep`: what one server alone does at its start, done while several are at work.

A replica may be answering from a version that was removed elsewhere, and its engine dies when the files vanish. So
files go only after nobody has pointed to them for longer than any request may take; and a stored response that is still
unfinished after such a time was a dead replica's.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from adapters import ledger, upkeep
from adapters.ports import Store
from adapters.shelf import Shelf
from server import logs
from server.blobs import open_blobs
from server.process_tree import die_with_parent
from server.settings import Settings, load_settings
from server.storage.database import Database
from server.storage.responses import Responses

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
MARGIN_SECONDS = 60.0  # for a replica to learn of a removal, and for its request's last steps


class Upkeep:
    """Two looks at the same thing, far enough apart."""

    def __init__(
        self,
        database: Store,
        shelf: Shelf,
        responses: Responses,
        *,
        wait_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """wait_seconds: after which no request can still be running that ran before."""
        self._database = database
        self._shelf = shelf
        self._responses = responses
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._unclaimed_since: dict[str, float] = {}  # by digest

    def look(self) -> list[str]:
        """Do what is due; returns the digests whose files were deleted."""
        now = self._clock()
        self._responses.fail_interrupted(before=now - self._wait_seconds)
        with self._database.read() as connection:
            claimed = ledger.digests(connection)
        unclaimed = set(self._shelf.digests()) - claimed
        self._unclaimed_since = {digest: self._unclaimed_since.get(digest, now) for digest in unclaimed}
        waiting = {digest for digest, since in self._unclaimed_since.items() if since > now - self._wait_seconds}
        return upkeep.collect(self._database, self._shelf, waiting) if unclaimed - waiting else []


def wait_seconds(settings: Settings) -> float:
    """How long a request may hold on to what was removed meanwhile."""
    return settings.queue_timeout_seconds + settings.request_timeout_seconds + MARGIN_SECONDS


def main(argv: Sequence[str]) -> int:
    """Look every half minute until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m deploy.ray.upkeep", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="process id: this process ends with it")
    die_with_parent(parser.parse_args(argv).parent)
    settings = load_settings()
    logs.configure(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with closing(Database(settings.sql_url)) as database:
        shelf = Shelf(open_blobs(settings))
        keeper = Upkeep(database, shelf, Responses(database), wait_seconds=wait_seconds(settings))
        while not stop.is_set():
            try:
                if gone := keeper.look():
                    logger.info("removed the files of %d adapter versions that nothing needs", len(gone))
            except Exception:
                logger.exception("what is left over could not be removed; trying again in %g s", LOOK_SECONDS)
            stop.wait(LOOK_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
