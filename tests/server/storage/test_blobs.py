from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from server.storage.blobs import LocalBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def store(blobs: LocalBlobs, key: str, content: str = "weights") -> Path:
    with blobs.staging() as folder:
        (folder / "file").write_text(content)
        return blobs.commit(folder, key)


def test_a_committed_folder_is_under_its_key(blobs: LocalBlobs, tmp_path: Path) -> None:
    path = store(blobs, "adapters/ab12")
    assert path == blobs.path("adapters/ab12") == tmp_path / "blobs" / "adapters" / "ab12"
    assert (path / "file").read_text() == "weights"
    assert list((tmp_path / "blobs" / "staging").iterdir()) == []


def test_what_was_not_committed_goes(blobs: LocalBlobs, tmp_path: Path) -> None:
    with blobs.staging() as folder:
        (folder / "file").touch()
    assert not folder.exists()
    with pytest.raises(RuntimeError), blobs.staging() as folder:
        raise RuntimeError
    assert not folder.exists()
    assert blobs.keys("") == []


def test_the_first_commit_of_a_key_stays(blobs: LocalBlobs) -> None:
    first = store(blobs, "adapters/ab12", "first")
    assert store(blobs, "adapters/ab12", "second") == first
    assert (first / "file").read_text() == "first"


def test_keys_are_listed_by_prefix(blobs: LocalBlobs) -> None:
    for key in ("files/f1", "adapters/ab12", "adapters/cd34", "plain"):
        store(blobs, key)
    with blobs.staging() as unfinished:
        (unfinished / "file").touch()
        assert blobs.keys("adapters/") == ["adapters/ab12", "adapters/cd34"]
        assert blobs.keys("adapters/c") == ["adapters/cd34"]
        assert blobs.keys("") == ["adapters/ab12", "adapters/cd34", "files/f1", "plain"]


def test_a_key_that_is_not_there(blobs: LocalBlobs) -> None:
    with pytest.raises(FileNotFoundError):
        blobs.path("adapters/ab12")
    store(blobs, "adapters/ab12")
    with pytest.raises(FileNotFoundError):  # a folder above blobs is none
        blobs.path("adapters")


def test_removing_twice_is_no_error(blobs: LocalBlobs, tmp_path: Path) -> None:
    store(blobs, "adapters/ab12")
    blobs.remove("adapters/ab12")
    blobs.remove("adapters/ab12")
    assert blobs.keys("") == []
    assert list((tmp_path / "blobs" / "trash").iterdir()) == []


def test_open_files_outlive_their_blob(blobs: LocalBlobs) -> None:
    with (store(blobs, "adapters/ab12") / "file").open() as held:
        blobs.remove("adapters/ab12")
        assert held.read() == "weights"


@pytest.mark.parametrize("key", ["", "../x", "a/../b", "/abs", "a//b", "a/", ".hidden", "staging/x", "trash/x", "a\nb"])
def test_keys_are_plain(blobs: LocalBlobs, key: str) -> None:
    with blobs.staging() as folder:
        (folder / "file").touch()
        with pytest.raises(ValueError, match="not a key"):
            blobs.commit(folder, key)
    with pytest.raises(ValueError, match="not a key"):
        blobs.path(key)
    with pytest.raises(ValueError, match="not a key"):
        blobs.remove(key)


def test_blobs_do_not_nest(blobs: LocalBlobs) -> None:
    store(blobs, "adapters/ab12")
    with pytest.raises(ValueError, match="inside another blob"):
        store(blobs, "adapters/ab12/more")
    with pytest.raises(ValueError, match="above other blobs"):
        store(blobs, "adapters")
    assert blobs.keys("") == ["adapters/ab12"]


def test_an_empty_folder_is_no_blob(blobs: LocalBlobs) -> None:
    with blobs.staging() as folder, pytest.raises(ValueError, match="at least one"):
        blobs.commit(folder, "adapters/ab12")


def test_everything_is_on_the_disk_before_it_is_visible(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        log.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        log.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    with blobs.staging() as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "deep").touch()
        (folder / "file").touch()
        blobs.commit(folder, "adapters/ab12")
        name = folder.name
    before, after = log[: log.index("rename")], log[log.index("rename") + 1 :]
    assert sorted(before) == sorted(["deep", "sub", "file", name])
    assert after == ["adapters", "blobs"]


def test_many_threads_commit_one_key(blobs: LocalBlobs) -> None:
    start = threading.Barrier(8)
    paths: list[Path] = []

    def commit(content: str) -> None:
        with blobs.staging() as folder:
            (folder / "file").write_text(content)
            start.wait()
            paths.append(blobs.commit(folder, "adapters/ab12"))

    threads = [threading.Thread(target=commit, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1
    assert (paths[0] / "file").read_text() in {str(i) for i in range(8)}


FILLER = """
import sys
from pathlib import Path
from server.storage.blobs import LocalBlobs
with LocalBlobs(Path(sys.argv[1])).staging() as folder:
    (folder / "half").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_sweeping_spares_live_processes(blobs: LocalBlobs, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", FILLER, str(tmp_path / "blobs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    assert child.stdout
    folder = Path(child.stdout.readline().strip())
    with blobs.staging() as mine:
        blobs.sweep()
        assert mine.exists()
        assert (folder / "half").exists()
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert (folder / "half").exists()
    blobs.sweep()
    assert not folder.exists()


def test_sweeping_ends_what_was_being_deleted(blobs: LocalBlobs, tmp_path: Path) -> None:
    grave = tmp_path / "blobs" / "trash" / "0123"
    grave.mkdir()
    (grave / "file").touch()
    store(blobs, "adapters/ab12")
    blobs.sweep()
    assert not grave.exists()
    assert blobs.keys("") == ["adapters/ab12"]
