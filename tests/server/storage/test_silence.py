"""PostgreSQL's side of one connection is stopped as a paused machine is: the network still acknowledges."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from server.storage import silence
from server.storage.database import SURE_SECONDS, Database
from server.storage.errors import DatabaseUnavailable
from server.storage.silence import silent_for
from server.storage.tables import feed
from tests.databases import only_postgresql
from tests.retrieval.shelf import Clock

pytestmark = only_postgresql
SHORT, LONG = 0.3, 20.0  # seconds


def driver(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """PostgreSQL's process for a connection stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def generations(database: Database) -> list[int]:
    with database.read() as connection:
        return [row.generation for row in connection.execute(sa.select(feed))]


def backend(connection: sa.Connection) -> int:
    pid: int = driver(connection).info.backend_pid
    return pid


def test_a_statement_that_is_not_answered_is_given_up(database: Database) -> None:
    def ask() -> None:
        with database.read() as connection, stopped(backend(connection)), silent_for(driver(connection), SHORT):
            connection.execute(sa.select(feed))

    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=r"silent for 0\.3 s"):
        ask()
    assert SHORT < time.monotonic() - began < LONG
    assert generations(database) == []  # over another connection


def test_so_is_a_commit(database: Database) -> None:
    def change(halted: ExitStack) -> None:
        with database.write() as connection:
            connection.execute(feed.insert().values(topic="keys", generation=1))
            halted.enter_context(stopped(backend(connection)))
            driver(connection).silent_seconds = SHORT

    with ExitStack() as halted, pytest.raises(DatabaseUnavailable):
        change(halted)
    assert generations(database) in ([], [1])  # nobody can know: it was lost on its way there, or on its way back


def test_a_connection_that_rested_is_not_waited_for_long(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.storage.database.PING_SECONDS", SHORT)
    clock = Clock()
    resting = Database(url, clock=clock)
    with resting.read() as connection:
        connection.execute(sa.select(feed))
        pid = backend(connection)
    with stopped(pid):
        clock.now += SURE_SECONDS
        assert generations(resting) == []  # asked, found silent, and replaced
    resting.close()


def test_who_says_something_now_and_then_may_take_long(database: Database) -> None:
    slowly = "SELECT repeat('x', 10000), pg_sleep(0.15) FROM generate_series(1, 6)"  # larger than its buffer, each row
    with database.read() as connection, silent_for(driver(connection), 3 * SHORT / 2):
        assert len(connection.exec_driver_sql(slowly).all()) == 6


def test_other_connections_have_the_usual_time(database: Database) -> None:
    with database.read() as one, database.read() as other, silent_for(driver(one), SHORT):
        assert driver(other).silent_seconds == silence.SILENT_SECONDS


def test_tables_may_take_their_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(connection: sa.Connection) -> None:
        assert driver(connection).silent_seconds == float("inf")

    monkeypatch.setattr("server.storage.migrations.upgrade", slow)
    database.migrate()
    with database.read() as connection:
        assert driver(connection).silent_seconds == silence.SILENT_SECONDS
