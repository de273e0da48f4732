"""A PostgreSQL server of the tests' own: from the distribution's binaries, in a temporary folder, for this run alone.

It is reached by a socket in that folder, listens on no port, and dies with the tests, however they end. Its texts are
ordered as people do it (ICU's en-US: "a" before "B"), as an operator's database may be, and SQLite's are not.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from server.storage.database import Database

USER = "manyhats"
MIGRATED = "migrated"  # with all tables and no rows; a database is made as a copy of it
EMPTY = "template0"
UNPRIVILEGED = "nobody"  # who it runs as when root runs the tests, which PostgreSQL refuses
START_SECONDS = 60
OPTIONS = {
    "listen_addresses": "",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
}
# durability is what the tests of SQLite show; here a crash of the machine loses nothing that anybody wants
FAST = {**OPTIONS, "fsync": "off", "full_page_writes": "off"}
MOST_BYTES = 64 * 1024**2  # of a database that is used again: what is deleted still takes its room
_END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_CLEAR = """
DO $$
DECLARE name text;
BEGIN
    SET LOCAL session_replication_role = replica;  -- in any order: references are not looked at
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        PERFORM setval(name::regclass, 1, false);
    END LOOP;
END $$
"""
_LOCALE = ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8")
_QUIT = signal.SIGQUIT  # an immediate shutdown


def binaries() -> Path | None:
    """Where `initdb` and `postgres` lie: the newest of the distribution's, else those of PATH; None without any."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: int(folder.parent.name))
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def why_missing() -> str:
    """Why there can be no server here; empty where there can."""
    if binaries() is None:
        return "there is no PostgreSQL here: apt-get install postgresql"
    if shutil.which("setpriv") is None:
        return "there is no setpriv here, which lets PostgreSQL end with the tests: apt-get install util-linux"
    return ""


class Server:
    """Running after `start`; databases are made with `fresh`."""

    def __init__(self, options: Mapping[str, str] = FAST) -> None:
        """Make the folder and what initdb puts there. options: what it is started with."""
        found = binaries()
        assert found is not None
        self._binaries = found
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="manyhats-pg-"))  # short: a socket's path has 107 characters
        self._account = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        if self._account is not None:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._used: str | None = None  # a database that nobody uses any more, without rows
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync", *_LOCALE)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return self._folder / "log"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def url(self, name: str) -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg://{USER}@/{name}?host={self._folder}"

    def start(self) -> None:
        """Return when it answers."""
        settings = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._as_user("postgres", "-D", str(self._data), "-k", str(self._folder), *settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        pause = threading.Event()
        for _ in range(START_SECONDS * 20):
            if self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            try:
                self._connect("postgres").close()
                return
            except psycopg.OperationalError:
                pause.wait(0.05)
        raise RuntimeError("PostgreSQL did not answer")

    def stop(self) -> None:
        """At once, with every connection cut: as after a crash, but for the shared memory."""
        if self._process is not None:
            self._process.send_signal(_QUIT)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """SIGKILL to all of its processes, the first one first, so that it starts none anew; `start` mends the rest."""
        if self._process is not None:
            processes = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait()
            psutil.wait_procs(processes)  # whoever is left would keep the memory that the next one wants
            self._process = None

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def migrate_template(self) -> None:
        """Make the database that others are copies of."""
        self._tell("CREATE DATABASE {} TEMPLATE {}", MIGRATED, EMPTY)
        with closing(Database(self.url(MIGRATED))) as database:
            database.migrate()

    @contextmanager
    def fresh(self, template: str = MIGRATED, *, encoding: str = "UTF8") -> Iterator[str]:
        """The URL of a new database, which goes at the end, whoever is still connected."""
        name = f"test_{next(self._numbers)}"
        plain = "" if encoding == "UTF8" else f" ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'"
        self._tell(f"CREATE DATABASE {{}} TEMPLATE {{}} STRATEGY file_copy{plain}", name, template)
        try:
            yield self.url(name)
        finally:
            if self.is_running:
                self._tell("DROP DATABASE {} WITH (FORCE)", name)

    @contextmanager
    def cleared(self) -> Iterator[str]:
        """The URL of a database without rows that tests before have used: for those that leave its tables as they are.

        Making a new one for every test would be most of their time.
        """
        name = self._used or f"test_{next(self._numbers)}"
        if self._used is None:
            self._tell("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, MIGRATED)
        self._used = None  # until it is known to be clear again
        yield self.url(name)
        if self.is_running and self._clear(name):
            self._used = name

    def _clear(self, name: str) -> bool:
        with closing(self._connect(name)) as connection:
            connection.execute(_END_OTHERS)
            if connection.execute("SELECT pg_database_size(current_database())").fetchall()[0][0] > MOST_BYTES:
                return False
            connection.execute(_CLEAR)
        return True

    def _tell(self, statement: str, *names: str) -> None:
        with closing(self._connect("postgres")) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]  # no LiteralString

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self._folder), user=USER, dbname=name, autocommit=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(self._as_user(program, *arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        rights = []
        if self._account is not None:
            rights = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]
        return ["setpriv", "--pdeathsig", "QUIT", *rights, str(self._binaries / program), *arguments]
