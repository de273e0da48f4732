"""What one of several servers deletes of removed versions, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.ledger import remove_adapter
from adapters.shelf import Shelf
from server.leftovers import LOOK_SECONDS, Leftovers
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from tests.deploy.ray.test_versions import NEW, OLD, register
from tests.retrieval.shelf import Clock

WAIT = 2 * LOOK_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def leftovers(database: Database, blobs: LocalBlobs, clock: Clock) -> Leftovers:
    return Leftovers(database, Shelf(blobs), wait_seconds=WAIT, clock=clock)


def lay_down(blobs: LocalBlobs, digest: str) -> None:
    with blobs.staging() as folder:
        (folder / "adapter_config.json").write_text("{}")
        blobs.commit(folder, f"adapters/{digest}")


def test_files_that_nobody_points_to_go_only_after_the_longest_request(
    leftovers: Leftovers, blobs: LocalBlobs, clock: Clock
) -> None:
    lay_down(blobs, OLD)
    assert leftovers.look() == []
    clock.now += WAIT - 1
    assert leftovers.look() == []
    clock.now += LOOK_SECONDS
    assert leftovers.look() == [OLD]
    assert blobs.keys("adapters/") == []


def test_files_of_a_version_stay_and_begin_to_wait_when_it_is_removed(
    leftovers: Leftovers, blobs: LocalBlobs, clock: Clock, database: Database
) -> None:
    lay_down(blobs, OLD)
    leftovers.look()
    with database.write() as connection:
        register(connection, "legal", OLD)  # the same bytes again, just before they would have gone
    clock.now += WAIT
    assert leftovers.look() == []
    with database.write() as connection:
        remove_adapter(connection, "legal")
    clock.now += LOOK_SECONDS
    assert leftovers.look() == []
    clock.now += WAIT
    assert leftovers.look() == [OLD]


def test_what_is_removed_while_another_s_files_go_waits_for_its_own_time(
    leftovers: Leftovers, blobs: LocalBlobs, clock: Clock, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for digest in (OLD, NEW):
        lay_down(blobs, digest)
    with database.write() as connection:
        register(connection, "legal", NEW)
    leftovers.look()
    clock.now += WAIT
    write = database.write

    def write_after_a_removal() -> object:
        monkeypatch.setattr(database, "write", write)
        with write() as connection:
            remove_adapter(connection, "legal")
        return write()

    monkeypatch.setattr(database, "write", write_after_a_removal)
    assert leftovers.look() == [OLD]
    assert blobs.keys("adapters/") == [f"adapters/{NEW}"]


def test_two_that_look_at_the_same_delete_it_once(
    leftovers: Leftovers, blobs: LocalBlobs, clock: Clock, database: Database
) -> None:
    other = Leftovers(database, Shelf(blobs), wait_seconds=WAIT, clock=clock)
    lay_down(blobs, OLD)
    assert leftovers.look() == other.look() == []
    clock.now += WAIT
    assert leftovers.look() == [OLD]
    assert other.look() == []


def test_a_look_that_fails_is_made_again_at_once(
    leftovers: Leftovers, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    lay_down(blobs, OLD)

    def fail(prefix: str = "") -> list[str]:
        raise OSError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "keys", fail)
        with pytest.raises(OSError, match="away"):
            leftovers.look()
    leftovers.look()
    clock.now += WAIT
    assert leftovers.look() == [OLD]
