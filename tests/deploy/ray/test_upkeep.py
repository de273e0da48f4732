from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.ledger import remove_adapter
from adapters.shelf import Shelf
from deploy.ray.upkeep import Upkeep, wait_seconds
from server.settings import Settings
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.responses import Responses
from tests.deploy.ray.test_versions import OLD, register

WAIT = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Iterator[Database]:
    shutil.copy(migrated, tmp_path / "manyhats.db")
    database = Database(f"sqlite:///{tmp_path / 'manyhats.db'}")
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def upkeep(database: Database, blobs: LocalBlobs, clock: Clock) -> Upkeep:
    return Upkeep(database, Shelf(blobs), Responses(database, clock=clock), wait_seconds=WAIT, clock=clock)


def lay_down(blobs: LocalBlobs, digest: str) -> None:
    with blobs.staging() as folder:
        (folder / "adapter_config.json").write_text("{}")
        blobs.commit(folder, f"adapters/{digest}")


def test_files_that_nobody_points_to_go_only_after_the_longest_request(upkeep: Upkeep, blobs: LocalBlobs, clock: Clock):
    lay_down(blobs, OLD)
    assert upkeep.look() == []
    clock.now += WAIT - 1
    assert upkeep.look() == []
    clock.now += 1
    assert upkeep.look() == [OLD]
    assert blobs.keys("adapters/") == []


def test_files_of_a_version_stay_and_begin_to_wait_when_it_is_removed(
    upkeep: Upkeep, blobs: LocalBlobs, clock: Clock, database: Database
):
    lay_down(blobs, OLD)
    upkeep.look()
    with database.write() as connection:
        register(connection, "legal", OLD)  # the same bytes again, just before they would have gone
    clock.now += WAIT
    assert upkeep.look() == []
    with database.write() as connection:
        remove_adapter(connection, "legal")
    assert upkeep.look() == []
    clock.now += WAIT
    assert upkeep.look() == [OLD]


def test_a_request_may_wait_and_then_run_for_its_whole_time():
    settings = Settings()
    assert wait_seconds(settings) > settings.queue_timeout_seconds + settings.request_timeout_seconds
