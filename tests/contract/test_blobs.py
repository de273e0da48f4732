"""Every store of blobs keeps what a folder on one machine keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from server.storage.blob_cache import BlobCache
from server.storage.blob_store import BlobStore
from server.storage.blobs import LocalBlobs
from server.storage.object_store import ObjectStore
from server.storage.shared_blobs import SharedBlobs
from tests.s3 import session

Open = Callable[[], BlobStore]


@pytest.fixture(params=["local", "shared", "shared, no copies"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open the same store again: as another process would, or, without copies, as another machine."""
    if request.param == "local":
        return lambda: LocalBlobs(tmp_path / "blobs")
    url = f"{request.getfixturevalue('bucket')}/some/prefix"
    machines = iter(range(1000))

    def shared() -> SharedBlobs:
        name = "machine" if request.param == "shared" else f"machine-{next(machines)}"
        return SharedBlobs(ObjectStore(url, session=session()), BlobCache(tmp_path / name, most_bytes=2**30))

    return shared


@pytest.fixture
def blobs(opened: Open) -> BlobStore:
    return opened()


def store(blobs: BlobStore, key: str, content: str = "weights") -> Path:
    with blobs.staging() as folder:
        (folder / "file").write_text(content)
        return blobs.commit(folder, key)


def test_a_committed_folder_is_under_its_key(blobs: BlobStore, opened: Open) -> None:
    with blobs.staging() as folder:
        (folder / "file").write_text("weights")
        (folder / "empty").touch()
        (folder / "sub").mkdir()
        (folder / "sub" / "deep").write_bytes(bytes(range(256)))
        path = blobs.commit(folder, "adapters/ab12")
        assert not folder.exists()  # moved, not copied
    assert path == blobs.path("adapters/ab12")
    for one in (path, opened().path("adapters/ab12")):
        found = {file.relative_to(one).as_posix(): file.read_bytes() for file in one.rglob("*") if file.is_file()}
        assert found == {"file": b"weights", "empty": b"", "sub/deep": bytes(range(256))}


def test_a_folder_inside_the_staged_one_may_be_committed(blobs: BlobStore, opened: Open) -> None:
    with blobs.staging() as work:
        (work / "staged").mkdir()
        (work / "staged" / "file").write_text("weights")
        blobs.commit(work / "staged", "adapters/ab12")
        assert work.exists()
    assert (opened().path("adapters/ab12") / "file").read_text() == "weights"


def test_what_was_prepared_is_there_when_it_is_committed(blobs: BlobStore, opened: Open) -> None:
    with blobs.staging() as folder:
        (folder / "file").write_text("weights")
        blobs.prepare(folder, "adapters/ab12")
        assert opened().keys() == []
        blobs.commit(folder, "adapters/ab12")
    assert (opened().path("adapters/ab12") / "file").read_text() == "weights"


def test_what_was_not_committed_goes(blobs: BlobStore) -> None:
    with blobs.staging() as folder:
        (folder / "file").touch()
        blobs.prepare(folder, "adapters/ab12")
    assert not folder.exists()
    with pytest.raises(RuntimeError), blobs.staging() as folder:
        raise RuntimeError
    assert not folder.exists()
    assert blobs.keys() == []


def test_the_first_commit_of_a_key_stays(blobs: BlobStore, opened: Open) -> None:
    first = store(blobs, "adapters/ab12", "first")
    assert store(blobs, "adapters/ab12", "second") == first
    assert (first / "file").read_text() == "first"
    assert (store(opened(), "adapters/ab12", "third") / "file").read_text() == "first"
    assert (store(opened(), "adapters/ab12", "first") / "file").read_text() == "first"


def test_keys_are_listed_by_prefix(blobs: BlobStore, opened: Open) -> None:
    assert blobs.keys() == []
    for key in ("files/f1", "adapters/ab12", "adapters/cd34", "plain", "with.dot/a.json"):
        store(blobs, key)
    with blobs.staging() as unfinished:
        (unfinished / "file").touch()
        blobs.prepare(unfinished, "adapters/ef56")
        for one in (blobs, opened()):
            assert one.keys("adapters/") == ["adapters/ab12", "adapters/cd34"]
            assert one.keys("adapters/c") == ["adapters/cd34"]
            assert one.keys() == ["adapters/ab12", "adapters/cd34", "files/f1", "plain", "with.dot/a.json"]
            assert one.keys("none/") == []


def test_names_of_files_without_the_files(blobs: BlobStore, opened: Open) -> None:
    for key in ("adapters/ab12", "adapters/cd34"):
        with blobs.staging() as folder:
            (folder / "sub").mkdir()
            for name in ("file", "sub/deep"):
                (folder / name).write_text(key)
            blobs.commit(folder, key)
    found = opened().files(["adapters/ab12", "adapters/none", "adapters/cd34"])
    assert found == {key: frozenset({"file", "sub/deep"}) for key in ("adapters/ab12", "adapters/cd34")}
    assert opened().files([]) == {}


def test_a_key_that_is_not_there(blobs: BlobStore) -> None:
    with pytest.raises(FileNotFoundError):
        blobs.path("adapters/ab12")
    store(blobs, "adapters/ab12")
    with pytest.raises(FileNotFoundError):
        blobs.path("adapters")


def test_what_was_removed_is_gone_and_may_come_again(blobs: BlobStore, opened: Open) -> None:
    store(blobs, "adapters/ab12", "first")
    store(blobs, "adapters/cd34")
    for _ in range(2):  # the second time there is nothing to remove
        opened().remove("adapters/ab12")
        blobs.remove("adapters/ab12")
    assert blobs.keys() == ["adapters/cd34"]
    for one in (blobs, opened()):
        with pytest.raises(FileNotFoundError):
            one.path("adapters/ab12")
    store(blobs, "adapters/ab12", "second")
    for one in (blobs, opened()):
        assert (one.path("adapters/ab12") / "file").read_text() == "second"


def test_open_files_outlive_their_blob(blobs: BlobStore) -> None:
    with (store(blobs, "adapters/ab12") / "file").open() as held:
        blobs.remove("adapters/ab12")
        assert held.read() == "weights"


@pytest.mark.parametrize("key", ["", "../x", "a/../b", "/abs", "a//b", "a/", ".hidden", "staging/x", "trash/x", "a\nb"])
def test_keys_are_plain(blobs: BlobStore, key: str) -> None:
    with blobs.staging() as folder:
        (folder / "file").touch()
        with pytest.raises(ValueError, match="not a key"):
            blobs.commit(folder, key)
        with pytest.raises(ValueError, match="not a key"):
            blobs.prepare(folder, key)
    with pytest.raises(ValueError, match="not a key"):
        blobs.path(key)
    with pytest.raises(ValueError, match="not a key"):
        blobs.remove(key)


def test_an_empty_folder_is_no_blob(blobs: BlobStore) -> None:
    with blobs.staging() as folder, pytest.raises(ValueError, match="at least one"):
        blobs.commit(folder, "adapters/ab12")


def test_many_threads_commit_one_key(blobs: BlobStore, opened: Open) -> None:
    stores = [blobs, blobs, opened(), opened()]
    start = threading.Barrier(len(stores))
    found: list[str] = []

    def commit(one: BlobStore, content: str) -> None:
        with one.staging() as folder:
            (folder / "file").write_text(content)
            start.wait()
            found.append((one.commit(folder, "adapters/ab12") / "file").read_text())

    threads = [threading.Thread(target=commit, args=(one, str(i))) for i, one in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(stores)
    assert set(found) == {(opened().path("adapters/ab12") / "file").read_text()}


def test_sweeping_and_tidying_spare_what_is_there(blobs: BlobStore) -> None:
    store(blobs, "adapters/ab12")
    with blobs.staging() as folder:
        (folder / "file").write_text("x")
        blobs.prepare(folder, "adapters/cd34")
        blobs.sweep()
        blobs.tidy()
        blobs.commit(folder, "adapters/cd34")
    found = {key: (blobs.path(key) / "file").read_text() for key in ("adapters/ab12", "adapters/cd34")}
    assert found == {"adapters/ab12": "weights", "adapters/cd34": "x"}
