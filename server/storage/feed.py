"""The change feed: how one process learns that another has changed something, by numbers that only grow.

Whoever follows looks at the numbers now and then. PostgreSQL also tells it at once; what it tells may be lost with a
connection, and the next look finds it.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from server.storage.database import Database
from server.storage.tables import feed

logger = logging.getLogger(__name__)

Topic = Literal["keys", "adapters", "assistants", "files", "ingestion", "training"]
FOLLOWED: frozenset[Topic] = frozenset({"keys", "adapters", "assistants"})  # what processes keep in memory
CHANNEL = "manyhats_feed"
SLICE_SECONDS = 0.5  # between two looks at whether this process ends
RECONNECT_SECONDS = 1.0  # polling goes on meanwhile


def bump(connection: sa.Connection, topic: Topic) -> None:
    """Tell the readers of a topic, at this transaction's commit, that it has changed.

    The last thing that a transaction does: until its end it keeps all others from telling of that topic.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(feed)
        .values(topic=topic, generation=1)
        .on_conflict_do_update(index_elements=[feed.c.topic], set_={"generation": feed.c.generation + 1})
    )
    if connection.dialect.name == "postgresql" and topic in FOLLOWED:
        connection.execute(sa.select(sa.func.pg_notify(CHANNEL, topic)))  # sent when the transaction is committed


class Feed:
    """What the server polls to know when to read again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def generations(self) -> dict[str, int]:
        """Each topic that ever changed, with the number of its changes; one read of a few rows."""
        with self._database.look() as connection:
            rows = connection.execute(sa.select(feed.c.topic, feed.c.generation))
            return {row.topic: row.generation for row in rows}


class Listener:
    """Waits until another process may have changed what this one keeps in memory. For one thread; `stop` for any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None  # psycopg's, listening
        self._connect_at = 0.0
        self._stopped = threading.Event()

    def wait(self, seconds: float) -> None:
        """Return as soon as somebody tells of a change, else after these seconds; never raises."""
        until = time.monotonic() + seconds
        try:
            if self._connection is None and time.monotonic() >= self._connect_at:
                self._connect_at = time.monotonic() + RECONNECT_SECONDS
                self._connection = self._database.listen(CHANNEL)
                if self._connection is not None:
                    return  # what was told before it listened is found by looking
            while self._connection is not None and not self._stopped.is_set() and time.monotonic() < until:
                slice_seconds = min(SLICE_SECONDS, until - time.monotonic())
                for _ in self._connection.notifies(timeout=slice_seconds, stop_after=1):
                    return
        except Exception as error:  # noqa: BLE001  # psycopg's, which SQLite does without
            logger.info("changes are looked for every %.1f s, and not told of: %s", seconds, error)
            self._drop()
        self._stopped.wait(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        """Have `wait` return, now and ever after; from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Let the connection go."""
        self.stop()
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
        self._connection = None
