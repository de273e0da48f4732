"""The database: SQLite in the data directory, or another by URL. The SQL over it is the part both speak.

SQLite runs in WAL mode with `synchronous=FULL`: what a `write()` block has left is on the disk, and readers never wait
for writers. Writers of one process queue on a lock of ours, because SQLite's own waiting is polling and not fair.

On PostgreSQL writers run side by side, each statement seeing what was committed before it (READ COMMITTED). So whoever
reads to decide what to write locks what it read: a row by `with_for_update()`, the registry by its own advisory lock;
an `UPDATE … WHERE` that waited for a row looks at it again by itself. SERIALIZABLE would find the same conflicts, but
only at the end, and a `with` block cannot be run again; one lock for all writers, as SQLite has it, would make every
replica wait for each other's ingestion. What SQLite gives for nothing is therefore tested with two writers on both.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from server.storage import migrations
from server.storage.errors import DatabaseFull, DatabaseUnavailable
from server.storage.file_lock import folder_locked
from server.storage.silence import PING_SECONDS, end_silence, silent_for

BUSY_SECONDS = 10  # how long a writer waits for another process, or another thread
MIGRATION_SECONDS = 120
MIGRATION_LOCK = 0x6D616E79  # PostgreSQL's advisory locks are numbers; this one reads "many"

CONNECT_SECONDS = 5
SURE_SECONDS = 1.0  # after its last use a connection is taken to be there
USED_AT = "used at"
IDLE_SECONDS = 300  # in a transaction, which may move an adapter's bytes to another machine meanwhile
POSTGRESQL_FULL = "53100"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
OUR_MISTAKES = (DataError, IntegrityError, NotSupportedError, ProgrammingError)  # the database works, the SQL was wrong


class Database:
    """Transactions over one database, from any thread."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Open a SQLAlchemy URL; a SQLite file and its folder are created, private to their user. See `migrate`.

        clock: seconds. Raises ValueError for SQLite in memory, which threads cannot share, and DatabaseUnavailable.
        """
        parsed = sa.make_url(url)
        self._clock = clock
        self._lock: threading.Lock | None = None
        self._writer: int | None = None  # the thread that holds the lock
        if parsed.get_backend_name() != "sqlite":
            self._engine = sa.create_engine(
                parsed,
                pool_size=8,
                max_overflow=24,
                pool_timeout=BUSY_SECONDS,
                pool_use_lifo=True,  # those used a moment ago again, and the others rest
                connect_args=_connect_args(parsed),
            )
            end_silence(self._engine)
            sa.event.listen(self._engine, "connect", _replace_nul)
            sa.event.listen(self._engine, "checkin", self._note_use)
            sa.event.listen(self._engine, "checkout", self._check_is_there)
            return
        if not parsed.database or parsed.database == ":memory:" or parsed.query:
            raise ValueError(f"{url!r} is not a plain SQLite file; give sqlite:///PATH")
        _prepare_file(Path(parsed.database))
        self._lock = threading.Lock()
        # Overflow costs a file handle, and a pool that can run dry would deadlock threads that read while they write.
        self._engine = sa.create_engine(parsed, pool_size=8, max_overflow=-1)
        sa.event.listen(self._engine, "connect", _configure)
        sa.event.listen(self._engine, "begin", _begin)

    def migrate(self) -> None:
        """Bring the tables to this version's state in one transaction; two processes at once are safe.

        Raises DatabaseNewer when a newer manyhats wrote it, else DatabaseUnavailable.
        """
        with _translated(), self._engine.connect() as connection:
            if self._lock is None:
                with silent_for(connection.connection.driver_connection, inf):  # tables may be large
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_SECONDS}s'")
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
                    if encoding != "UTF8":
                        raise DatabaseUnavailable(f"the database has the encoding {encoding}; make one with UTF8")
                    migrations.upgrade(connection)
                    connection.commit()
            else:
                connection.detach()  # its pragmas are its own; it does not go back to the pool
                raw = connection.connection.dbapi_connection
                assert isinstance(raw, sqlite3.Connection)
                raw.execute(f"PRAGMA busy_timeout={MIGRATION_SECONDS * 1000}")
                # A table that SQLite can only change by copying is dropped on the way, which must not cascade.
                raw.execute("PRAGMA foreign_keys=OFF")
                connection.execution_options(immediate=True).begin()
                migrations.upgrade(connection)
                dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                assert dangling is None, f"a migration broke a reference: {dangling}"
                connection.commit()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One transaction that changes nothing; all of its statements see the same moment."""
        with _translated(), self._engine.connect() as connection:
            if self._lock is None:  # by default every statement of PostgreSQL sees its own
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def look(self) -> Iterator[sa.Connection]:
        """For one SELECT, which sees one moment without a transaction: on PostgreSQL that is one exchange, not three.

        Nothing may be changed in it.
        """
        with _translated(), self._engine.connect() as connection:
            if self._lock is None:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: on the disk when the block ends, gone when it raises.

        On SQLite nobody else writes meanwhile; on PostgreSQL lock what is read to be written, see above.
        Raises DatabaseUnavailable after waiting 10 s for other writers, and where PostgreSQL ends a transaction because
        two wait for each other; integrity errors come through as SQLAlchemy's.
        """
        with self._writing(), _translated(), self._engine.connect() as connection:
            connection.execution_options(immediate=True)
            with connection.begin():
                yield connection

    def listen(self, channel: str) -> Any:
        """psycopg's connection, of the caller's own, that hears what is notified on a channel; None on SQLite.

        Raises DatabaseUnavailable, or psycopg's own errors.
        """
        if self._lock is not None:
            return None
        with _translated():
            pooled = self._engine.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()
            try:
                connection.autocommit = True
                connection.execute(f'LISTEN "{channel}"')
            except BaseException:
                connection.close()
                raise
        return connection

    def close(self) -> None:
        """Close idle connections; those in use close when their block ends."""
        self._engine.dispose()

    def _note_use(self, _connection: object, record: Any) -> None:
        record.info[USED_AT] = self._clock()

    def _check_is_there(self, connection: Any, record: Any, _proxy: object) -> None:
        """A pooled connection may have ended while nobody used it; asking each time would be a third of all exchanges.

        One that ended within the second fails whoever uses it, and takes the other old ones with it.
        """
        used_at = record.info.get(USED_AT)
        if connection.closed:
            raise sa.exc.InvalidatePoolError
        if used_at is None or self._clock() - used_at < SURE_SECONDS:
            return
        try:
            with silent_for(connection, PING_SECONDS):
                self._engine.dialect.do_ping(connection)
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        thread = threading.get_ident()
        assert self._writer != thread, "write() inside write(): pass the outer connection on"
        if not self._lock.acquire(timeout=BUSY_SECONDS):
            raise DatabaseUnavailable(f"the database has been busy writing for {BUSY_SECONDS} s")
        self._writer = thread
        try:
            yield
        finally:
            self._writer = None
            self._lock.release()


def _connect_args(url: sa.URL) -> dict[str, Any]:
    """What a server or network that has gone silent costs at most, on both ends; what the URL says itself stands."""
    wanted = {
        "application_name": "manyhats",
        "client_encoding": "utf8",
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "options": (
            f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={IDLE_SECONDS}s "
            # a machine that has died holds its locks for as long as the server believes in it
            "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
        ),
    }
    return {name: value for name, value in wanted.items() if name not in url.query}


def _replace_nul(connection: Any, _record: object) -> None:
    """PostgreSQL has no text with NUL: such a name is stored with U+FFFD instead, and is found by nobody."""
    from psycopg.types.string import StrDumper

    class Dumper(StrDumper):
        def dump(self, text: str) -> Any:
            return super().dump(text.replace("\0", "\ufffd") if "\0" in text else text)

    connection.adapters.register_dumper(str, Dumper)


def _prepare_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Changing to WAL does not wait for other processes that do the same; this lock does.
        with folder_locked(path.parent):
            if path.exists():
                # Never opened here: closing any descriptor of it would drop SQLite's locks in this process.
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
            try:
                connection.execute("PRAGMA journal_mode=WAL")  # kept in the file
            finally:
                connection.close()
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnavailable(f"cannot open the database {str(path)!r}: {error}") from error


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin` does
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later cannot wait for its turn; one that writes says so at its start.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OUR_MISTAKES:
        raise
    except DBAPIError as error:
        if _is_full(error):
            raise DatabaseFull(f"the database's disk is full: {error.orig}") from error
        raise DatabaseUnavailable(f"the database does not answer: {error.orig}") from error
    except PoolTimeout as error:
        raise DatabaseUnavailable("all connections to the database are in use") from error


def _is_full(error: DBAPIError) -> bool:
    codes = (getattr(error.orig, "sqlite_errorcode", None), getattr(error.orig, "sqlstate", None))
    return sqlite3.SQLITE_FULL in codes or POSTGRESQL_FULL in codes
