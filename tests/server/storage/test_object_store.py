"""Objects in a bucket: whole or not at all, and every failure in our words."""

from __future__ import annotations

import errno
import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server.storage import object_store
from server.storage.errors import BlobsUnavailable
from server.storage.object_store import ObjectStore
from tests.s3 import session


@pytest.fixture
def objects(bucket: str) -> ObjectStore:
    return ObjectStore(f"{bucket}/a/prefix", session=session())


def test_small_objects(objects: ObjectStore) -> None:
    assert objects.read("x/one") is None
    assert objects.create("x/one", b"first")
    assert not objects.create("x/one", b"second")
    assert objects.create("x/two", b"")
    assert objects.read("x/one") == b"first"
    assert objects.read_many(["x/one", "x/none", "x/two"]) == {"x/one": b"first", "x/two": b""}
    assert [(one.name, one.n_bytes) for one in objects.listed("x/")] == [("x/one", 5), ("x/two", 0)]
    objects.delete("x/one")
    objects.delete("x/one")
    assert [one.name for one in objects.listed("")] == ["x/two"]


def test_a_listing_goes_on_behind_its_first_page(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        objects.create(f"x/{i}", b"")
    call = objects._quick().call_s3
    pages: list[dict[str, Any]] = []

    def two_at_a_time(method: str, **given: Any) -> Any:
        pages.append(given)
        return call(method, MaxKeys=2, **given)

    monkeypatch.setattr(objects._quick(), "call_s3", two_at_a_time)
    assert [one.name for one in objects.listed("x/")] == [f"x/{i}" for i in range(5)]
    assert len(pages) == 3


def test_a_prefix_does_not_see_its_neighbours(bucket: str, objects: ObjectStore) -> None:
    for url in (bucket, f"{bucket}/a", f"{bucket}/a/prefix2"):
        ObjectStore(url, session=session()).create("x", b"theirs")
    assert objects.read("x") is None
    assert list(objects.listed("")) == []


def test_a_large_file_goes_in_parts(objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "PART_BYTES", 5 * 1024**2)  # S3 takes no smaller ones
    block = bytes(range(256)) * 4096
    (tmp_path / "large").write_bytes(block * 12 + b"end")
    calls: list[str] = []
    slow = objects._slow()
    real = slow._call_s3

    async def watched(method: str, *args: Any, **given: Any) -> Any:
        calls.append(method)
        return await real(method, *args, **given)

    monkeypatch.setattr(slow, "_call_s3", watched)
    objects.upload(tmp_path / "large", "large")
    objects.download("large", tmp_path / "again")
    assert calls.count("upload_part") == 3
    assert calls.count("get_object") == 4  # one that tells the size, then the parts
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("large", "again")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("is_written", [True, False])
def test_a_large_upload_whose_last_answer_was_lost(
    objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    write = objects._slow().put_file

    def lost(*args: Any, **given: Any) -> None:
        if is_written:
            write(*args, **given)
        gone = FileNotFoundError("The specified upload does not exist.")
        gone.__cause__ = ClientError({"Error": {"Code": "NoSuchUpload"}}, "AbortMultipartUpload")
        raise gone

    monkeypatch.setattr(objects._slow(), "put_file", lost)
    (tmp_path / "file").write_bytes(b"whole")
    if is_written:
        objects.upload(tmp_path / "file", "x")
        assert objects.read("x") == b"whole"
    else:
        with pytest.raises(BlobsUnavailable, match="does not exist"):
            objects.upload(tmp_path / "file", "x")


def test_what_is_not_there_cannot_be_downloaded(objects: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        objects.download("none", tmp_path / "none")


def test_a_bucket_that_is_not_there_is_no_empty_one(bucket: str, tmp_path: Path) -> None:
    objects = ObjectStore(f"{bucket}-none/prefix", session=session())
    (tmp_path / "file").touch()
    for ask in (
        lambda: objects.read("x"),
        lambda: objects.read_many(["x", "y"]),
        lambda: objects.create("x", b""),
        lambda: objects.upload(tmp_path / "file", "x"),
        lambda: objects.download("x", tmp_path / "again"),
        lambda: list(objects.listed("")),
        lambda: objects.delete("x"),
    ):
        with pytest.raises(BlobsUnavailable):
            ask()


def test_a_store_that_does_not_answer(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "ATTEMPTS", 1)
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(BlobsUnavailable, match="does not answer") as raised:
            ObjectStore(bucket).read("x")
    assert "secret" not in str(raised.value)


def refusal(code: str) -> OSError:
    error = OSError(errno.EIO, code)
    error.__cause__ = ClientError({"Error": {"Code": code, "Message": "no"}}, "PutObject")
    return error


def test_a_conflict_is_asked_again(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [refusal("ConditionalRequestConflict"), refusal("ConditionalRequestConflict")]
    write = objects._quick().pipe_file

    def refusing(*args: Any, **given: Any) -> Any:
        if failures:
            raise failures.pop()
        return write(*args, **given)

    monkeypatch.setattr(objects._quick(), "pipe_file", refusing)
    assert objects.create("x", b"mine")
    assert not failures
    monkeypatch.setattr(objects._quick(), "pipe_file", lambda *_, **__: (_ for _ in ()).throw(refusal("409")))
    with pytest.raises(BlobsUnavailable, match="too many"):
        objects.create("y", b"mine")


def test_a_refused_condition_without_its_name_means_that_another_was_first(
    objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any, **__: Any) -> None:
        raise refusal("PreconditionFailed")

    monkeypatch.setattr(objects._quick(), "pipe_file", refusing)
    assert not objects.create("x", b"mine")


def test_a_store_without_conditions_is_looked_at_first(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write = objects._quick().pipe_file

    def unconditional(place: str, content: bytes, mode: str = "overwrite") -> Any:
        if mode == "create":
            raise refusal("NotImplemented")
        return write(place, content)

    monkeypatch.setattr(objects._quick(), "pipe_file", unconditional)
    assert objects.create("x", b"first")
    assert not objects.create("x", b"second")
    assert objects.read("x") == b"first"


def test_a_full_disk_is_ours(objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(objects._slow(), "get_file", full)
    with pytest.raises(OSError, match="No space left"):
        objects.download("x", tmp_path / "x")
