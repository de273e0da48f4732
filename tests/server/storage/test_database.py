from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import IntegrityError

from server.storage.database import SURE_SECONDS, Database
from server.storage.errors import DatabaseFull, DatabaseNewer, DatabaseUnavailable
from server.storage.tables import feed
from tests.databases import only_postgresql, only_sqlite
from tests.postgresql import EMPTY, Server
from tests.retrieval.shelf import Clock


def rows(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {row.topic: row.generation for row in connection.execute(sa.select(feed))}


def put(connection: sa.Connection, topic: str, generation: int = 1) -> None:
    connection.execute(feed.insert().values(topic=topic, generation=generation))


def test_what_a_write_block_leaves_is_there_for_others(database: Database, url: str) -> None:
    with database.write() as connection:
        put(connection, "keys")
    other = Database(url)
    assert rows(other) == {"keys": 1}
    other.close()


def test_a_write_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(feed.insert(), [{"topic": "keys", "generation": 1}, {"topic": "jobs", "generation": None}])
    assert rows(database) == {}


def test_a_read_block_sees_one_moment(database: Database) -> None:
    with database.read() as reader:
        count = sa.select(sa.func.count()).select_from(feed)
        assert reader.execute(count).scalar_one() == 0
        with database.write() as writer:
            put(writer, "keys")
        assert reader.execute(count).scalar_one() == 0
    assert rows(database) == {"keys": 1}


def test_what_a_read_block_changes_does_not_stay(database: Database) -> None:
    with database.read() as connection:
        put(connection, "keys")
    assert rows(database) == {}


def test_a_look_sees_what_is_committed_and_leaves_no_trace(database: Database) -> None:
    def looked() -> dict[str, int]:
        with database.look() as connection:
            return {row.topic: row.generation for row in connection.execute(sa.select(feed))}

    with database.write() as writer:
        put(writer, "keys")
        assert looked() == {}
    assert looked() == rows(database) == {"keys": 1}
    bad = [{"topic": "jobs", "generation": 1}, {"topic": "files", "generation": None}]
    with pytest.raises(IntegrityError), database.write() as writer:  # over the connection that was looked with
        writer.execute(feed.insert(), bad)
    assert looked() == {"keys": 1}


@only_postgresql
def test_a_look_is_no_transaction(database: Database) -> None:
    for _ in range(2):
        with database.look() as connection:
            connection.execute(sa.select(feed))
            assert _psycopg(connection).info.transaction_status is TransactionStatus.IDLE
        with database.read() as connection:
            connection.execute(sa.select(feed))
            assert _psycopg(connection).info.transaction_status is TransactionStatus.INTRANS


@only_postgresql
def test_a_connection_is_asked_whether_it_is_there_when_it_has_rested(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    resting = Database(url, clock=clock)
    asked: list[object] = []
    dialect = resting._engine.dialect
    ask = dialect.do_ping
    monkeypatch.setattr(dialect, "do_ping", lambda connection: asked.append(connection) or ask(connection))
    for _ in range(3):
        assert rows(resting) == {}
    assert asked == []
    clock.now += SURE_SECONDS
    assert rows(resting) == {}
    assert len(asked) == 1
    resting.close()


@only_postgresql
def test_a_connection_that_ended_while_it_rested_is_replaced(database: Database, url: str) -> None:
    clock = Clock()
    resting = Database(url, clock=clock)
    with resting.read(), resting.read():  # two connections
        pass
    end_all(database)
    clock.now += SURE_SECONDS
    with resting.read() as first, resting.look() as second:
        assert first.scalar(sa.select(1)) == second.scalar(sa.select(1)) == 1
    resting.close()


@only_postgresql
def test_one_that_ended_a_moment_ago_is_told_and_the_next_are_others(database: Database, url: str) -> None:
    resting = Database(url, clock=Clock())
    with resting.read(), resting.read():
        pass
    end_all(database)
    with pytest.raises(DatabaseUnavailable):
        rows(resting)
    assert rows(resting) == {}
    resting.close()


def end_all(database: Database) -> None:
    """Every other connection to the same database."""
    with database.read() as connection:
        ending = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        connection.exec_driver_sql(ending)


def _psycopg(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection


def test_writers_take_turns(database: Database) -> None:
    with database.write() as connection:
        put(connection, "keys", 0)
    start = threading.Barrier(8)

    def count_up() -> None:
        start.wait()
        for _ in range(10):
            with database.write() as connection:
                seen = connection.execute(sa.select(feed.c.generation).with_for_update()).scalar_one()
                connection.execute(feed.update().values(generation=seen + 1))

    threads = [threading.Thread(target=count_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(database) == {"keys": 80}


def test_writers_of_two_processes_take_turns(database: Database, url: str) -> None:
    """A transaction that reads before it writes must hold its place from the start, or one of the two is refused."""
    with database.write() as connection:
        put(connection, "keys", 0)
    other = Database(url)
    start = threading.Barrier(2)

    def count_up(mine: Database) -> None:
        start.wait()
        for _ in range(25):
            with mine.write() as connection:
                seen = connection.execute(sa.select(feed.c.generation).with_for_update()).scalar_one()
                connection.execute(feed.update().values(generation=seen + 1))

    threads = [threading.Thread(target=count_up, args=(mine,)) for mine in (database, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(database) == {"keys": 50}
    other.close()


@only_sqlite
def test_reading_inside_writing_never_runs_dry(database: Database) -> None:
    start = threading.Barrier(24)
    seen: list[int] = []

    def read_twice() -> None:
        with database.read() as outer:
            outer.execute(sa.select(feed)).all()
            start.wait(timeout=20)  # every thread holds a connection now and wants a second one
            with database.read() as inner:
                seen.append(len(inner.execute(sa.select(feed)).all()))

    threads = [threading.Thread(target=read_twice) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [0] * 24


@only_sqlite
def test_writing_inside_writing_is_our_mistake(database: Database) -> None:
    with database.write(), pytest.raises(AssertionError, match="pass the outer connection on"):
        database.write().__enter__()
    with database.write() as connection:
        put(connection, "keys")
    assert rows(database) == {"keys": 1}


def test_integrity_errors_come_through(database: Database) -> None:
    with database.write() as connection:
        put(connection, "keys")
    with pytest.raises(IntegrityError), database.write() as connection:
        put(connection, "keys")


@only_sqlite
def test_sqlite_is_set_up_to_last(database: Database) -> None:
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


@only_sqlite
def test_the_files_are_private(url: str, tmp_path: Path) -> None:
    database = Database(url)
    database.migrate()
    folder = tmp_path / "data"
    with database.write() as connection:
        put(connection, "keys")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    database.close()
    assert set(modes) >= {"manyhats.db", "manyhats.db-wal"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "open.db"
    path.touch(mode=0o644)
    Database(f"sqlite:///{path}").close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_memory_is_no_place_for_it(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        Database(url)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, not a database; " * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        Database(f"sqlite:///{path}")
    assert path.read_text().startswith("these are my notes")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match="cannot open the database"):
        Database(f"sqlite:///{tmp_path / 'file' / 'x.db'}")


def fill(connection: sa.Connection) -> None:
    connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite takes the file's present size
    connection.execute(feed.insert(), [{"topic": f"topic-{i}", "generation": 1} for i in range(1_000)])


@only_sqlite
def test_a_full_disk_is_told_and_loses_nothing(database: Database) -> None:
    with database.write() as connection:
        put(connection, "keys")
    with pytest.raises(DatabaseFull, match="full"), database.write() as connection:
        fill(connection)
    assert rows(database) == {"keys": 1}


@only_sqlite
def test_another_process_that_writes_too_long_is_told(database: Database, tmp_path: Path) -> None:
    hog = sqlite3.connect(tmp_path / "data" / "manyhats.db", isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=1")  # the pooled connection that write() takes next
    with pytest.raises(DatabaseUnavailable, match="locked"), database.write():
        pass
    hog.close()


@only_postgresql
def test_a_writer_that_waits_too_long_for_another_is_told(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as connection:
        put(connection, "keys")
    monkeypatch.setattr("server.storage.database.BUSY_SECONDS", 0.05)
    hasty = Database(url)
    with database.write() as first:
        first.execute(feed.update().values(generation=2))
        with pytest.raises(DatabaseUnavailable, match="lock timeout"), hasty.write() as second:
            second.execute(feed.update().values(generation=3))
    assert rows(database) == {"keys": 2}
    hasty.close()


@only_postgresql
def test_two_that_wait_for_each_other_are_told_and_one_goes_on(database: Database) -> None:
    with database.write() as connection:
        put(connection, "keys")
        put(connection, "jobs")
    first_steps = threading.Barrier(2)
    outcomes: list[str] = []

    def change(topics: list[str]) -> None:
        try:
            with database.write() as connection:
                for topic in topics:
                    connection.execute(feed.update().where(feed.c.topic == topic).values(generation=7))
                    if topic == topics[0]:
                        first_steps.wait(timeout=20)
            outcomes.append("done")
        except DatabaseUnavailable:
            outcomes.append("told")

    threads = [threading.Thread(target=change, args=(topics,)) for topics in (["keys", "jobs"], ["jobs", "keys"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "told"]


def test_text_with_nul_harms_nothing(database: Database) -> None:
    """Clients may send it as an id, and PostgreSQL has no such text."""
    with database.read() as connection:
        assert connection.execute(sa.select(feed).where(feed.c.topic == "a\0b")).all() == []
    with database.write() as connection:
        put(connection, "c\0d")
    assert len(rows(database)) == 1


def test_a_database_of_another_encoding_is_refused(postgresql: Server) -> None:
    with postgresql.fresh(EMPTY, encoding="SQL_ASCII") as url:
        database = Database(url)
        with pytest.raises(DatabaseUnavailable, match="SQL_ASCII; make one with UTF8"):
            database.migrate()
        database.close()


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    database = Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable, match="does not answer"), database.read():
        pass
    database.close()


def test_two_processes_migrate_at_once(url: str) -> None:
    code = "import sys; from server.storage.database import Database; sys.stdin.read(); Database(sys.argv[1]).migrate()"
    children = [
        subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for child in children:
        assert child.stdin
        child.stdin.close()  # go
    for child in children:
        assert child.stderr
        complaint = child.stderr.read()
        child.stderr.close()
        assert child.wait() == 0, complaint.decode()
    database = Database(url)
    assert rows(database) == {}
    database.close()


def test_migrating_again_keeps_what_is_there(database: Database) -> None:
    with database.write() as connection:
        put(connection, "keys", 7)
    database.migrate()
    assert rows(database) == {"keys": 7}


def test_a_newer_database_is_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num='9999'")
    with pytest.raises(DatabaseNewer, match="'9999' is unknown here"):
        database.migrate()
