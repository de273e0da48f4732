"""What one of several servers deletes of removed versions, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

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


def before_deletion(monkeypatch: pytest.MonkeyPatch, database: Database, do: Callable[[sa.Connection], None]) -> None:
    """Have something happen between the look at the rows and the transaction that deletes."""
    write, n_begun = database.write, 0

    def writing() -> object:
        nonlocal n_begun
        n_begun += 1
        if n_begun == 2:
            with write() as connection:
                do(connection)
        return write()

    monkeypatch.setattr(database, "write", writing)


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
    before_deletion(monkeypatch, database, lambda connection: remove_adapter(connection, "legal"))
    assert leftovers.look() == [OLD]
    assert blobs.keys("adapters/") == [f"adapters/{NEW}"]


def test_files_of_a_version_that_came_and_went_between_two_looks_wait_anew(
    leftovers: Leftovers, blobs: LocalBlobs, clock: Clock, database: Database
) -> None:
    lay_down(blobs, OLD)
    assert leftovers.look() == []
    clock.now += WAIT - 1
    with database.write() as connection:
        register(connection, "legal", OLD)
    with database.write() as connection:
        remove_adapter(connection, "legal")  # though a request that began before may go on
    clock.now += LOOK_SECONDS
    assert leftovers.look() == []
    clock.now += WAIT
    assert leftovers.look() == [OLD]


def test_files_of_a_version_that_came_and_went_before_the_deletion_stay(
    leftovers: Leftovers, blobs: LocalBlobs, clock: Clock, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_down(blobs, OLD)
    leftovers.look()
    clock.now += WAIT

    def come_and_go(connection: sa.Connection) -> None:
        register(connection, "legal", OLD)
        remove_adapter(connection, "legal")

    before_deletion(monkeypatch, database, come_and_go)
    assert leftovers.look() == []
    for _ in range(2):
        clock.now += WAIT
        assert blobs.keys("adapters/") == [f"adapters/{OLD}"]
        gone = leftovers.look()
    assert gone == [OLD]


def test_what_others_register_does_not_put_it_off(
    leftovers: Leftovers, blobs: LocalBlobs, clock: Clock, database: Database
) -> None:
    lay_down(blobs, OLD)
    leftovers.look()
    with database.write() as connection:
        register(connection, "legal", NEW)
    clock.now += WAIT
    assert leftovers.look() == [OLD]


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
