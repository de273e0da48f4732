from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.ledger import put_adapter, put_version, set_adapter
from adapters.manifest import Manifest
from deploy.ray.versions import Versions
from server import agreement
from server.settings import Settings, load_settings
from server.storage import feed
from server.storage.assistants import Assistants
from server.storage.database import Database
from server.storage.errors import DatabaseUnavailable
from server.storage.keys import Keys
from tests.deploy.ray.requests import request
from tests.postgresql import Server
from tests.retrieval.shelf import Clock
from tests.server.replicas import until

FINGERPRINT = "f" * 64
OLD, NEW = "1" * 64, "2" * 64
LEGAL = request(body={"model": "legal"})


@pytest.fixture
def settings(tmp_path: Path, migrated: Path) -> Settings:
    shutil.copy(migrated, tmp_path / "manyhats.db")
    return load_settings({"MANYHATS_DATA_DIR": str(tmp_path)})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.sql_url)
    with database.write() as connection:
        register(connection, "legal", OLD, NEW)
    yield database
    database.close()


def register(connection: sa.Connection, name: str, *digests: str) -> None:
    row = {"base_name": "demo", "base_fingerprint": FINGERPRINT, "source": "test", "status": "ready"}
    put_adapter(connection, name, created_at=1.0, pinned=False, traffic=[[digests[0], 1]], **row)
    for digest in digests:
        manifest = Manifest(
            digest=digest,
            rank=8,
            alpha=8.0,
            use_rslora=False,
            target_modules=("q_proj",),
            n_parameters=1,
            size_bytes=1,
            dtype="F32",
            declared_base=None,
            effect=1.0,
            modules=1,
        )
        put_version(connection, name, manifest, source="test", created_at=1.0)


@pytest.fixture
def versions(settings: Settings, database: Database) -> Iterator[Versions]:
    versions = Versions(settings, base_fingerprint=FINGERPRINT, embedders=["embedder"])
    yield versions
    versions.close()


def test_a_name_and_a_version_mean_a_version(versions: Versions):
    assert versions.engine_name(request(body={"model": "legal"})) == f"legal@{OLD}"
    assert versions.engine_name(request(body={"model": f"legal@{NEW[:12]}"})) == f"legal@{NEW}"
    assert versions.engine_name(request("/v1/messages", body={"model": "legal"})) == f"legal@{OLD}"


def test_an_assistant_means_its_adapters_version(settings: Settings, database: Database):
    Assistants(database).create({"name": "lawyer", "model": "legal"})
    versions = Versions(settings, base_fingerprint=FINGERPRINT, embedders=[])
    assert versions.engine_name(request(body={"model": "lawyer"})) == f"legal@{OLD}"
    versions.close()


@pytest.mark.parametrize(
    "body", [{"model": "demo"}, {"model": "nobody"}, {"model": "embedder"}, {}, [], b"{", b"\xff", b"[" * 100_000]
)
def test_what_means_no_version_is_any_replicas_to_answer(versions: Versions, body: object):
    assert versions.engine_name(request(body=body)) == ""


def test_other_paths_mean_no_version(versions: Versions):
    assert versions.engine_name(request("/v1/embeddings", body={"model": "legal"})) == ""
    assert versions.engine_name(request(method="GET", body={"model": "legal"})) == ""


def test_who_may_not_ask_learns_nothing_here(settings: Settings, database: Database):
    _, secret = Keys(database).create("ci", models=["other"])
    versions = Versions(settings, base_fingerprint=FINGERPRINT, embedders=[])
    assert versions.engine_name(request(body={"model": "legal"})) == ""
    assert versions.engine_name(request(body={"model": "legal"}, authorization=f"Bearer {secret}")) == ""
    versions.close()


@asynccontextmanager
async def following(versions: Versions) -> AsyncIterator[None]:
    task = asyncio.create_task(versions.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def move(database: Database) -> None:
    with database.write() as connection:
        set_adapter(connection, "legal", traffic=((NEW, 1),))
        feed.bump(connection, "adapters")


async def test_a_moved_name_is_followed(versions: Versions, database: Database):
    async with following(versions):
        move(database)
        await until(lambda: versions.engine_name(LEGAL) == f"legal@{NEW}")


@contextmanager
def over(url: str, tmp_path: Path, clock: Callable[[], float] = time.monotonic) -> Iterator[tuple[Versions, Database]]:
    """An ingress' view of a PostgreSQL, and somebody else's connection to it."""
    settings = load_settings({"MANYHATS_DATA_DIR": str(tmp_path), "MANYHATS_DATABASE_URL": url})
    with closing(Database(url)) as elsewhere:
        with elsewhere.write() as connection:
            register(connection, "legal", OLD, NEW)
        with closing(Versions(settings, base_fingerprint=FINGERPRINT, embedders=[], clock=clock)) as versions:
            yield versions, elsewhere


async def test_postgresql_tells_of_a_move(postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agreement, "FOLLOW_SECONDS", 600.0)  # so seldom that whoever passes was told
    with postgresql.fresh() as url, over(url, tmp_path) as (versions, elsewhere):
        async with following(versions):
            move(elsewhere)
            await until(lambda: versions.engine_name(LEGAL) == f"legal@{NEW}")


async def test_while_the_database_is_away_names_hold_for_so_long_as_in_a_server(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agreement, "FOLLOW_SECONDS", 0.05)
    clock = Clock()
    try:
        with postgresql.fresh() as url, over(url, tmp_path, clock) as (versions, elsewhere):
            async with following(versions):
                move(elsewhere)
                await until(lambda: versions.engine_name(LEGAL) == f"legal@{NEW}")
                postgresql.stop()
                clock.now += Settings().stale_seconds - 1
                assert versions.engine_name(LEGAL) == f"legal@{NEW}"
                clock.now += 2
                for body in ({"model": "legal"}, {"model": "demo"}, b"{"):
                    with pytest.raises(DatabaseUnavailable):
                        versions.engine_name(request(body=body))
                assert versions.engine_name(request("/v1/files", method="GET")) == ""  # a replica's to answer
                postgresql.start()
                await until(lambda: _knows(versions))
    finally:
        if not postgresql.is_running:
            postgresql.start()


def _knows(versions: Versions) -> bool:
    try:
        return versions.engine_name(LEGAL) == f"legal@{NEW}"
    except DatabaseUnavailable:
        return False
