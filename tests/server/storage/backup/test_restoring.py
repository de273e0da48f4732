from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest
import sqlalchemy as sa

from retrieval import tables
from server.storage import migrations
from server.storage.backup import rows, schema
from server.storage.backup.archive import Reader, reading, writing
from server.storage.backup.making import back_up
from server.storage.backup.manifest import FORMAT, MANIFEST, PARTS, Manifest, part_line, table_name
from server.storage.backup.restoring import restore
from server.storage.errors import BackupFailed, BackupInvalid
from tests.server.storage.backup.conftest import MakeHouse
from tests.server.storage.backup.installation import House, without_rows


class Cut:
    """A backup whose reader is killed at its n-th file."""

    def __init__(self, archive: Reader, n_files: int) -> None:
        self._archive = archive
        self._left = n_files

    def open(self, name: str) -> IO[bytes]:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._archive.open(name)


@pytest.fixture
def backup(house: House, tmp_path: Path) -> Path:
    back_up(house.installation, tmp_path / "backup")
    return tmp_path / "backup"


def bring_back(backup: Path, into: House) -> House:
    with reading(backup) as archive:
        restore(archive, into.empty)
    return into


@pytest.mark.parametrize("name", ["folder", "file.tar"])
def test_what_comes_back_is_what_there_was(house: House, name: str, make_house: MakeHouse, tmp_path: Path) -> None:
    assert without_rows(house.database) == []
    back_up(house.installation, tmp_path / name)
    back = bring_back(tmp_path / name, make_house("back"))
    assert back.held() == house.held()
    assert back.numbers() == house.numbers()
    assert back.files() == house.files()
    assert back.answers(tmp_path / "indexes") == house.answers(tmp_path / "others")
    assert (back.data_dir / "demo-installed.json").read_text() == '["guide"]'
    assert not list(back.data_dir.rglob("optimizer.pt"))  # checkpoints are not in it


def test_a_number_that_was_given_out_is_not_given_out_again(house: House, backup: Path, make_house: MakeHouse) -> None:
    back = bring_back(backup, make_house("back"))
    assert back.add_adapter("next", seed=9).lora_id == house.add_adapter("next", seed=9).lora_id == 3


def test_null_and_jsons_null_stay_apart(house: House, backup: Path, make_house: MakeHouse) -> None:
    asked = sa.text("SELECT previous IS NULL FROM adapters")
    back = bring_back(backup, make_house("back"))
    for one in (house, back):
        with one.database.read() as connection:
            assert list(connection.execute(asked).scalars()) == [1]


def test_nothing_is_restored_over_an_installation(house: House, backup: Path) -> None:
    before = house.held()
    with pytest.raises(BackupFailed, match="there is an installation already"):
        bring_back(backup, house)
    assert house.held() == before


def test_killed_anywhere_it_is_no_installation_and_goes_on(backup: Path, make_house: MakeHouse, house: House) -> None:
    back = make_house("back")
    for n_files in range(1, 80, 5):
        with reading(backup) as archive:
            try:
                restore(Cut(archive, n_files), back.empty)
            except KeyboardInterrupt:
                with back.database.read() as connection:
                    assert schema.is_empty(connection)
            else:
                break
    assert n_files > 20
    assert back.held() == house.held()
    assert back.files() == house.files()


def test_a_damaged_file_stops_it(house: House, backup: Path, make_house: MakeHouse) -> None:
    (path,) = backup.glob("blobs/adapters/*/adapter_model.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    back = make_house("back")
    with pytest.raises(BackupInvalid, match=r"adapter_model\.safetensors of the backup is damaged"):
        bring_back(backup, back)
    with back.database.read() as connection:
        assert schema.is_empty(connection)
    assert back.blobs.keys("adapters/") == []


def test_damaged_rows_stop_it_as_a_whole(backup: Path, make_house: MakeHouse) -> None:
    path = backup / table_name("vectors")
    path.write_bytes(path.read_bytes().replace(b"A", b"B", 1))
    back = make_house("back")
    with pytest.raises(BackupInvalid, match=r"vectors\.jsonl of the backup is damaged"):
        bring_back(backup, back)
    with back.database.read() as connection:
        assert schema.is_empty(connection)


def test_a_blob_that_lies_there_damaged_gives_way(house: House, backup: Path, make_house: MakeHouse) -> None:
    back = make_house("back")
    key = house.blobs.keys("files/")[0]
    with back.blobs.staging() as folder:
        (folder / "content").write_text("not that")
        back.blobs.commit(folder, key)
    assert bring_back(backup, back).files() == house.files()


def test_an_older_backup_is_brought_up(make_house: MakeHouse, tmp_path: Path) -> None:
    old = make_house("old")
    with old.database.write() as connection:
        migrations.upgrade(connection, "0002")
        there = sorted(schema.OURS.intersection(sa.inspect(connection).get_table_names()))
        connection.execute(tables.contents.insert().values(digest="0" * 64, bytes=3))
    assert "training_jobs" not in there
    with writing(tmp_path / "backup") as archive, old.database.read() as connection:
        found = schema.tables(connection, there)
        parts = [
            archive.add_lines(table_name(table.name), [rows.header(table), *rows.read(connection, table)])
            for table in found
        ]
        manifest = Manifest(
            format=FORMAT,
            version="0.1",
            revision="0002",
            moment=1.0,
            tables={table.name: rows.count(connection, table) for table in found},
            sequences={},
            parts=archive.add_lines(PARTS, map(part_line, parts)),
            n_parts=len(parts),
            n_bytes=sum(part.bytes for part in parts),
            missing=(),
            damaged=(),
        )
        archive.add_lines(MANIFEST, [manifest.as_json()])
    back = bring_back(tmp_path / "backup", make_house("back"))
    with back.database.read() as connection:
        assert schema.revision(connection) == schema.head()
    assert back.held()["file_contents"].rows == 1
    assert back.held()["training_jobs"].rows == 0


def test_into_postgresql_and_back(
    house: House, backup: Path, make_house: MakeHouse, postgresql_url: str, tmp_path: Path
) -> None:
    there = bring_back(backup, make_house("there", postgresql_url))
    assert there.held() == house.held()
    assert there.numbers() == house.numbers()
    assert there.files() == house.files()
    assert there.answers(tmp_path / "indexes") == house.answers(tmp_path / "others")
    assert there.add_adapter("next", seed=9).lora_id == 3

    back_up(there.installation, tmp_path / "second")
    back = bring_back(tmp_path / "second", make_house("back"))
    assert back.held() == there.held()
    assert back.numbers() == there.numbers()
    assert back.files() == there.files()


def test_a_row_that_postgresql_does_not_take_is_told(
    house: House, make_house: MakeHouse, postgresql_url: str, tmp_path: Path
) -> None:
    with house.database.write() as connection:
        connection.execute(tables.stores.update().values(owner="x" * 97))
    back_up(house.installation, tmp_path / "backup")
    there = make_house("there", postgresql_url)
    with pytest.raises(BackupInvalid, match="'vector_stores'"):
        bring_back(tmp_path / "backup", there)
    with there.database.read() as connection:
        assert schema.is_empty(connection)


def test_other_programs_tables_are_none_of_ours(
    backup: Path, house: House, make_house: MakeHouse, postgresql_url: str
) -> None:
    there = make_house("there", postgresql_url)
    with there.database.write() as connection:
        connection.execute(sa.text("CREATE TABLE theirs (id int)"))
    assert bring_back(backup, there).held() == house.held()
