"""The two places where a server keeps things, each of this run's own: SQLite and a folder, PostgreSQL and a bucket.

PostgreSQL is the distribution's, as it comes: it writes to the disk before it acknowledges, as SQLite does here. The
bucket is moto's, which speaks S3, keeps everything in memory and takes one connection for each request.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.servers import free_port
from server.storage.database import Database
from tests import postgresql
from tests.s3 import ENVIRONMENT

BUCKET = "bench"
S3_START_SECONDS = 300  # on a machine that does much else
OPTIONS = {"listen_addresses": "", "max_connections": "200"}  # all else as PostgreSQL has it
LOGGED_SQL = re.compile(rb"LOG: +(statement|execute )")  # PostgreSQL's line for each that it was sent
LOGGED_REQUEST = re.compile(rb'"(\x1b\[\d+m)?[A-Z]+ \S+ HTTP/1\.[01]')  # of moto's log, where a 404 is coloured


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server keeps its rows and bytes."""

    name: str
    settings: Mapping[str, str]  # environment variables
    sql_log: Path | None = None  # of everything that the database is sent, where it can tell
    s3_log: Path | None = None


class Lines:
    """Counts a log's lines that match; a log is read on from where it was left."""

    def __init__(self, log: Path | None, pattern: re.Pattern[bytes]) -> None:
        self._log = log
        self._pattern = pattern
        self._read = 0
        self.new()

    def new(self) -> int:
        """How many there are since the last look; 0 without a log."""
        if self._log is None:
            return 0
        with self._log.open("rb") as log:
            log.seek(self._read)
            content = log.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return sum(1 for line in whole.splitlines() if self._pattern.search(line))


def embedded() -> Place:
    """The data directory alone."""
    return Place(name="SQLite, folder", settings={})


@contextmanager
def shared(folder: Path, *, told: bool = False) -> Iterator[Place]:
    """A PostgreSQL and an S3 server, both empty, while the block runs.

    told: have the database log every statement, which costs time. Raises RuntimeError where there is no PostgreSQL.
    """
    if missing := postgresql.why_missing():
        raise RuntimeError(missing)
    database = postgresql.Server({**OPTIONS, "log_statement": "all"} if told else OPTIONS)
    try:
        database.start()
        with database.fresh(postgresql.EMPTY) as url, _s3(folder / "s3.log") as address:
            yield Place(
                name="PostgreSQL, S3",
                settings={
                    **ENVIRONMENT,
                    "AWS_ENDPOINT_URL": address,
                    "MANYHATS_DATABASE_URL": url,
                    "MANYHATS_BLOB_URL": f"s3://{BUCKET}/manyhats",
                },
                sql_log=database.log if told else None,
                s3_log=folder / "s3.log",
            )
    finally:
        database.close()


def database_of(place: Place, data_dir: Path) -> Database:
    """The place's database, for a process beside the server; whoever opens it closes it."""
    return Database(place.settings.get("MANYHATS_DATABASE_URL") or f"sqlite:///{data_dir / 'manyhats.db'}")


@contextmanager
def _s3(log: Path) -> Iterator[str]:
    """moto in a process of its own, with a bucket: its work is not to be the client's."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-u", "-m", "moto.server", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _make_bucket(process, address, log)
        yield address
    finally:
        process.kill()
        process.wait()


def _make_bucket(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + S3_START_SECONDS
    with httpx.Client(trust_env=False, timeout=S3_START_SECONDS) as client:
        while time.monotonic() < until:
            if process.poll() is not None:
                raise RuntimeError(f"the S3 server ended: {log.read_text()[-2000:]}")
            try:
                client.put(f"{address}/{BUCKET}").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
    raise RuntimeError(f"the S3 server did not answer within {S3_START_SECONDS} s")
