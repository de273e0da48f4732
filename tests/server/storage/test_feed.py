from __future__ import annotations

import sqlalchemy as sa

from server.storage.database import Database
from server.storage.feed import Feed, bump


def test_each_change_of_a_topic_counts(database: Database) -> None:
    feed = Feed(database)
    assert feed.generations() == {}
    with database.write() as connection:
        bump(connection, "keys")
        bump(connection, "adapters")
    with database.write() as connection:
        bump(connection, "keys")
    assert feed.generations() == {"keys": 2, "adapters": 1}


def test_a_change_that_did_not_happen_is_not_told(database: Database) -> None:
    with database.read() as connection:  # rolled back at its end
        bump(connection, "keys")
    assert Feed(database).generations() == {}


def test_another_process_sees_it(database: Database, url: str) -> None:
    other = Database(url)
    feed = Feed(other)
    feed.generations()
    with database.write() as connection:
        bump(connection, "assistants")
    assert feed.generations() == {"assistants": 1}
    other.close()


def test_it_is_cheap_enough_to_poll(database: Database) -> None:
    statements: list[str] = []
    sa.event.listen(
        database._engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement)
    )
    Feed(database).generations()
    assert [s for s in statements if s != "BEGIN"] == ["SELECT feed.topic, feed.generation \nFROM feed"]
