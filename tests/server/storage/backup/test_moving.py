from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from retrieval import tables
from server import backups
from server.blobs import open_blobs
from server.settings import Settings
from server.storage.backup import rows
from server.storage.backup.moving import MovedBlobs, move_blobs, move_rows
from server.storage.blobs import LocalBlobs
from server.storage.errors import BackupFailed, BackupInvalid, DatabaseUnfinished
from tests.server.storage.backup.conftest import MakeHouse
from tests.server.storage.backup.installation import House

WHOSE = "this one"


class Killed(BaseException):
    """What a kill is in these tests."""


def move(house: House, there: House, *, whose: str = WHOSE) -> None:
    move_rows(house.database, there.database, whose=whose)


def killed_after(n_batches: int, monkeypatch: pytest.MonkeyPatch, house: House, there: House) -> bool:
    """Whether the move was killed before its end, after so many batches."""
    left = [n_batches]
    insert = rows.insert

    def count(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        insert(*arguments)  # type: ignore[arg-type]  # passed on

    with monkeypatch.context() as patched:
        patched.setattr(rows, "insert", count)
        try:
            move(house, there)
        except Killed:
            return True
    return False


def test_both_sides_hold_the_same(house: House, make_house: MakeHouse, postgresql_url: str, tmp_path: Path) -> None:
    before = (house.held(), house.files(), (house.data_dir / "manyhats.db").read_bytes())
    there = make_house("data", postgresql_url)  # over the same folder
    assert move_rows(house.database, there.database, whose=WHOSE) == before[0]
    assert there.held() == house.held()
    assert there.numbers() == house.numbers()
    assert there.answers(tmp_path / "indexes") == house.answers(tmp_path / "others")
    assert (house.held(), house.files(), (house.data_dir / "manyhats.db").read_bytes()) == before
    there.database.migrate()  # as a server does at its start
    assert there.add_adapter("next", seed=9).lora_id == 3
    with pytest.raises(BackupFailed, match="there is one already"):
        move(house, there)


def test_killed_after_any_batch_it_goes_on(
    house: House, make_house: MakeHouse, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "WRITE_ROWS", 2)
    there = make_house("there", postgresql_url)
    held = house.held()
    kills, n_rows = 0, -1
    while killed_after(5, monkeypatch, house, there):
        kills += 1
        with there.database.read() as connection:
            counts = [sa.select(sa.func.count()).select_from(sa.table(name)) for name in held]
            now = sum(connection.execute(count).scalar_one() for count in counts)
        assert now > n_rows, "a later attempt has begun anew"
        n_rows = now
        with pytest.raises(DatabaseUnfinished, match="run the same `manyhats migrate-data` again"):
            there.database.migrate()
    assert kills > 2
    assert there.held() == held
    assert there.numbers() == house.numbers()


def test_what_changed_between_two_attempts_is_noticed(
    house: House, make_house: MakeHouse, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make_house("there", postgresql_url)
    assert killed_after(12, monkeypatch, house, there)
    new = house.shelf.upload("new")
    with house.database.write() as connection:
        connection.execute(tables.stores.update().values(name="another"))
        before_the_others = tables.files.update().where(tables.files.c.id == new.id).values(id="file-0")
        connection.execute(before_the_others)
    house.shelf.attachments.attach(house.stores()[0], "file-0")
    move(house, there)
    assert there.held() == house.held()


def test_another_installations_move_is_left_alone(
    house: House, make_house: MakeHouse, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make_house("there", postgresql_url)
    assert killed_after(3, monkeypatch, house, there)
    with pytest.raises(BackupFailed, match="another move has begun"):
        move(house, there, whose="that one")


def test_an_installation_is_not_moved_over_another(house: House, make_house: MakeHouse, postgresql_url: str) -> None:
    there = make_house("there", postgresql_url)
    there.database.migrate()
    with pytest.raises(BackupFailed, match="there is one already"):
        move(house, there)


def test_a_row_that_postgresql_does_not_take_is_told_at_once(
    house: House, make_house: MakeHouse, postgresql_url: str
) -> None:
    with house.database.write() as connection:
        connection.execute(tables.stores.update().values(owner="x" * 97))
    with pytest.raises(BackupInvalid, match="'vector_stores'"):
        move(house, make_house("there", postgresql_url))


def test_it_goes_to_postgresql_only(house: House, make_house: MakeHouse) -> None:
    with pytest.raises(BackupFailed, match="postgresql"):
        move(house, make_house("there"))


def test_blobs_go_too_and_again_only_what_is_lacking(house: House, tmp_path: Path) -> None:
    to = LocalBlobs(tmp_path / "to")
    assert move_blobs(house.database, house.blobs, to) == MovedBlobs(
        there=len(house.blobs.keys("")), missing=(), damaged=()
    )
    assert to.keys("") == house.blobs.keys("")
    one, other = to.keys("")[:2]
    to.remove(one)
    (to.path(other) / "mark").touch()
    move_blobs(house.database, house.blobs, to)
    assert to.keys("") == house.blobs.keys("")
    assert (to.path(other) / "mark").exists()


def test_a_damaged_blob_goes_as_it_is_and_is_named(house: House, tmp_path: Path) -> None:
    key = house.blobs.keys("files/")[0]
    (house.blobs.path(key) / "content").write_text("damaged")
    to = LocalBlobs(tmp_path / "to")
    assert move_blobs(house.database, house.blobs, to).damaged == (key,)
    assert (to.path(key) / "content").read_text() == "damaged"


def test_a_lost_blob_is_named(house: House, tmp_path: Path) -> None:
    key = house.blobs.keys("files/")[0]
    house.blobs.remove(key)
    to = LocalBlobs(tmp_path / "to")
    assert move_blobs(house.database, house.blobs, to).missing == (key,)
    assert to.keys("") == house.blobs.keys("")


def test_the_command_moves_rows_and_blobs(
    house: House, make_house: MakeHouse, postgresql_url: str, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = Settings(data_dir=house.data_dir)
    moved = backups.move(settings, postgresql_url, str(tmp_path / "to"), say=said.append)
    assert moved.tables == house.held() == make_house("there", postgresql_url).held()
    assert moved.blobs == MovedBlobs(there=len(house.blobs.keys("")), missing=(), damaged=())
    assert LocalBlobs(tmp_path / "to").keys("") == house.blobs.keys("")
    assert not any(postgresql_url in line for line in said)


def test_the_command_moves_blobs_into_a_bucket(house: House, postgresql_url: str, bucket: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=house.data_dir)
    moved = backups.move(settings, postgresql_url, f"{bucket}/kept", say=lambda _: None)
    keys = house.blobs.keys("")
    assert moved.blobs == MovedBlobs(there=len(keys), missing=(), damaged=())
    elsewhere = open_blobs(Settings(data_dir=tmp_path / "another", blob_url=f"{bucket}/kept"))
    assert elsewhere.keys("") == keys
    for key in keys:
        files = sorted(path.name for path in house.blobs.path(key).iterdir())
        assert sorted(path.name for path in elsewhere.path(key).iterdir()) == files
        for name in files:
            assert (elsewhere.path(key) / name).read_bytes() == (house.blobs.path(key) / name).read_bytes()
