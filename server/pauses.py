"""How long a process that works off a queue waits after a failure, before it tries again."""

from __future__ import annotations

import logging

from server.storage.errors import DatabaseUnavailable

AWAY_SECONDS = 1.0  # between two looks whether the database is back
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0  # after anything else, which may not pass by itself


class Pauses:
    """Short while the database is away, so that work goes on as soon as it is back; else longer each time."""

    def __init__(self, work: str, logger: logging.Logger) -> None:
        """work: what the log calls it."""
        self._work = work
        self._logger = logger
        self._failures = 0  # in a row
        self._is_away = False

    def after(self, error: Exception) -> float:
        """Seconds to wait after this failure. It is logged; the database's absence once, however long it lasts."""
        if type(error) is DatabaseUnavailable:  # its subclasses say what does not pass by itself
            if not self._is_away:
                self._logger.warning("%s waits for the database: %s", self._work, error)
            self._is_away = True
            return AWAY_SECONDS
        pause = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 30))
        self._failures += 1
        self._logger.error("%s failed; going on in %.0f s", self._work, pause, exc_info=error)
        return pause

    def worked(self) -> None:
        """The next failure is the first again."""
        if self._is_away:
            self._logger.info("%s goes on", self._work)
        self._failures, self._is_away = 0, False
