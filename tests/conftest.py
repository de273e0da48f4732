"""What takes long and is the same for every test: made once."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from server.storage import object_store
from server.storage.database import Database
from tests.databases import BOTH
from tests.s3 import lead_there, served

if TYPE_CHECKING:
    from tests.postgresql import Server

SLOW_SECONDS = 120.0  # a machine that does much else answers its own questions late


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with all tables and no rows: its many writes to the disk are most of a test's time."""
    path = tmp_path_factory.mktemp("migrated") / "manyhats.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server for the whole run; tests that want it are skipped where there can be none."""
    from tests import postgresql

    if missing := postgresql.why_missing():
        pytest.skip(missing)
    server = postgresql.Server()
    try:
        server.start()
        server.migrate_template()
        yield server
    finally:
        server.close()


@pytest.fixture(params=BOTH)
def database_kind(request: pytest.FixtureRequest) -> str:
    """What kind of database the test is about to use; see tests/databases.py for tests of one kind only."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> Iterator[str]:
    """A database with all tables and no rows, for this test alone; it leaves the tables as they are."""
    if database_kind == "sqlite":
        yield f"sqlite:///{shutil.copy(migrated, tmp_path)}"
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.cleared() as url:
        yield url


@pytest.fixture(scope="session")
def embedder_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundled embedder lies converted, from run to run: converting it takes seconds, and torch.

    How it is converted is tested in tests/retrieval/test_embedding_backends.py, without this.
    """
    cache = getattr(pytestconfig, "cache", None)  # None with `-p no:cacheprovider`
    return tmp_path_factory.mktemp("embedder") if cache is None else Path(cache.mkdir("embedder"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server, one for all tests: buckets keep them apart."""
    with served() as address:
        yield address


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """`s3://…`: an empty bucket of this test's own, reached by the environment."""
    lead_there(monkeypatch, s3_server)
    monkeypatch.setattr(object_store, "SMALL_SECONDS", SLOW_SECONDS)
    name = f"bucket-{secrets.token_hex(6)}"
    httpx2.put(f"{s3_server}/{name}", timeout=SLOW_SECONDS).raise_for_status()
    return f"s3://{name}"
