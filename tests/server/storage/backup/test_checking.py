from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from server.storage.backup.archive import reading
from server.storage.backup.checking import check
from server.storage.backup.making import back_up
from server.storage.backup.manifest import Manifest
from server.storage.errors import BackupInvalid
from tests.server.storage.backup.installation import House


@pytest.fixture(scope="module")
def whole(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = Path(shutil.copytree(filled, tmp_path_factory.mktemp("checked") / "data"))
    house = House(data_dir)
    back_up(house.installation, data_dir.parent / "backup")
    back_up(house.installation, data_dir.parent / "backup.tar")
    house.close()
    return data_dir.parent / "backup"


@pytest.fixture
def backup(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "backup"))


def checked(path: Path) -> Manifest:
    with reading(path) as archive:
        return check(archive)


def test_a_whole_one(whole: Path) -> None:
    assert checked(whole).tables == checked(whole.with_suffix(".tar")).tables


def test_every_file_of_it_counts(whole: Path, backup: Path) -> None:
    """Each taken out, and each with one bit turned."""
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    assert len(names) > 25
    for name in names:
        content = (whole / name).read_bytes()
        (backup / name).unlink()
        with pytest.raises(BackupInvalid):
            checked(backup)
        if name.name != "manifest.json":  # whose digest nothing has
            turned = bytearray(content)
            turned[len(turned) // 2] ^= 1
            (backup / name).write_bytes(turned)
            with pytest.raises(BackupInvalid):
                checked(backup)
        (backup / name).write_bytes(content)
    checked(backup)


def test_a_tar_with_a_bit_turned(whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.with_suffix(".tar").read_bytes())
    content[content.index(b"first of the month")] ^= 1
    (tmp_path / "turned.tar").write_bytes(content)
    with pytest.raises(BackupInvalid):
        checked(tmp_path / "turned.tar")


def test_a_row_too_few_by_its_manifest(backup: Path) -> None:
    path = backup / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tables"]["files"]["rows"] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(BackupInvalid, match=r"tables/files\.jsonl of the backup has"):
        checked(backup)


def test_a_newer_one_is_refused(backup: Path) -> None:
    path = backup / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"revision": "9999"}))
    with pytest.raises(BackupInvalid, match="newer manyhats"):
        checked(backup)
