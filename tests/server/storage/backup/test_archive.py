from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from server.storage.backup.archive import Part, Reader, reading, writing
from server.storage.errors import BackupFailed, BackupInvalid

NAMES = ("backup", "backup.tar")
each_kind = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * 1024**2 + 1))
    return path


def write(to: Path, file: Path) -> list[Part]:
    with writing(to) as archive, file.open("rb") as source:
        return [archive.add("blobs/a/b", source), archive.add_lines("tables/t.jsonl", [b"[1]", b"[2]"])]


def content_of(archive: Reader, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read()


@each_kind
def test_what_goes_in_comes_out(tmp_path: Path, file: Path, name: str) -> None:
    parts = write(tmp_path / "new" / name, file)
    with reading(tmp_path / "new" / name) as archive:
        contents = [content_of(archive, part.name) for part in parts]
        assert contents == [file.read_bytes(), b"[1]\n[2]\n"]
        assert [part.sha256 for part in parts] == [hashlib.sha256(content).hexdigest() for content in contents]
        assert [part.bytes for part in parts] == [len(content) for content in contents]
        with pytest.raises(BackupInvalid, match="has no manifest"):
            archive.open("manifest.json")


@each_kind
def test_only_its_user_may_read_it(tmp_path: Path, file: Path, name: str) -> None:
    before = os.umask(0)
    try:
        write(tmp_path / name, file)
    finally:
        os.umask(before)
    for path in [tmp_path / name, *(tmp_path / name).rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@each_kind
def test_what_fails_leaves_nothing(tmp_path: Path, name: str) -> None:
    def fails() -> None:
        with writing(tmp_path / name) as archive:
            archive.add_lines("tables/t.jsonl", [b"[1]"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert list(tmp_path.iterdir()) == []


@each_kind
def test_the_last_of_one_name_counts(tmp_path: Path, name: str) -> None:
    with writing(tmp_path / name) as archive:
        archive.add_lines("tables/t.jsonl", [b"[1]"])
        archive.add_lines("tables/t.jsonl", [b"[2]"])
    with reading(tmp_path / name) as archive:
        assert content_of(archive, "tables/t.jsonl") == b"[2]\n"


@each_kind
def test_what_a_killed_one_has_left_gives_way(tmp_path: Path, file: Path, name: str) -> None:
    aside = tmp_path / f"{name}.part"
    if name.endswith(".tar"):
        aside.write_text("half")
    else:
        (aside / "blobs").mkdir(parents=True)
        (aside / "blobs" / "half").touch()
    write(tmp_path / name, file)
    assert not aside.exists()
    with reading(tmp_path / name) as archive, pytest.raises(BackupInvalid):
        archive.open("blobs/half")


@each_kind
def test_two_at_once_do_not_write_the_same(tmp_path: Path, file: Path, name: str) -> None:
    with writing(tmp_path / name) as archive:
        with pytest.raises(BackupFailed, match="another backup is being written"):
            write(tmp_path / name, file)
        archive.add_lines("tables/t.jsonl", [b"[1]"])
    with reading(tmp_path / name) as archive:
        assert content_of(archive, "tables/t.jsonl") == b"[1]\n"


@each_kind
def test_a_taken_name_stays_as_it_is(tmp_path: Path, file: Path, name: str) -> None:
    write(tmp_path / name, file)
    with pytest.raises(BackupFailed, match="is there already"):
        write(tmp_path / name, file)


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path, file: Path) -> None:
    (tmp_path / "backup").mkdir(mode=0o755)
    write(tmp_path / "backup", file)
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["backup.tar.gz", "backup.tgz", "backup.zip", "backup.tar.zst"])
def test_a_name_that_promises_compression_is_refused(tmp_path: Path, file: Path, name: str) -> None:
    with pytest.raises(BackupFailed, match=r"make a \.tar and compress that"):
        write(tmp_path / name, file)


def test_a_mounted_disk_is_no_new_name(file: Path) -> None:
    with pytest.raises(BackupFailed, match="is a mounted disk"):
        write(Path("/proc"), file)


def test_what_is_no_archive_is_told(tmp_path: Path, file: Path) -> None:
    with pytest.raises(BackupInvalid, match=r"no \.tar file"), reading(file):
        pass
    with pytest.raises(BackupInvalid, match="there is no backup"), reading(tmp_path / "nothing"):
        pass


def test_a_cut_tar_is_told(tmp_path: Path, file: Path) -> None:
    write(tmp_path / "backup.tar", file)
    content = (tmp_path / "backup.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: 1024**2])
    with pytest.raises(BackupInvalid), reading(tmp_path / "cut.tar") as archive:
        archive.open("tables/t.jsonl")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "manifest.json").symlink_to(tmp_path / "secret")
    with reading(tmp_path / "backup") as archive, pytest.raises(BackupInvalid):
        archive.open("manifest.json")
