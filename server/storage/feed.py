"""The change feed: how one process learns that another has changed something, by numbers that only grow."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from server.storage.database import Database
from server.storage.tables import feed

Topic = Literal["keys", "adapters", "assistants", "files", "ingestion", "training"]


def bump(connection: sa.Connection, topic: Topic) -> None:
    """Tell the readers of a topic, at this transaction's commit, that it has changed."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(feed)
        .values(topic=topic, generation=1)
        .on_conflict_do_update(index_elements=[feed.c.topic], set_={"generation": feed.c.generation + 1})
    )


class Feed:
    """What the server polls to know when to read again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def generations(self) -> dict[str, int]:
        """Each topic that ever changed, with the number of its changes; one read of a few rows."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(feed.c.topic, feed.c.generation))
            return {row.topic: row.generation for row in rows}
