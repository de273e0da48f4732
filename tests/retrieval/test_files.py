from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from retrieval import tables
from retrieval.errors import CursorUnknown, FileInvalid, FileNotFound, FileTooLarge, StoreFileNotFound
from retrieval.files import Files
from retrieval.upkeep import sweep
from server.storage import feed
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.feed import Feed
from tests.retrieval.shelf import Shelf


def test_an_upload_is_there_whole(shelf: Shelf) -> None:
    file = shelf.upload("hello", filename="Olá.txt", purpose="user_data")
    assert shelf.files.path(file).read_text() == "hello"
    assert shelf.files.get(file.id, "ana") == file
    assert file.digest == hashlib.sha256(b"hello").hexdigest()
    assert file.as_object() == {
        "id": file.id,
        "object": "file",
        "bytes": 5,
        "created_at": 1_000_000,
        "expires_at": None,
        "filename": "Olá.txt",
        "purpose": "user_data",
        "status": "processed",
        "status_details": None,
    }


def test_the_same_bytes_are_stored_once_and_stay_until_the_last_file_goes(shelf: Shelf) -> None:
    first, second = shelf.upload("same"), shelf.upload("same", owner="bob")
    assert first.id != second.id
    assert shelf.blobs.keys("files/") == [f"files/{first.digest}"]
    shelf.files.delete(first.id, "ana")
    assert shelf.files.path(second).read_text() == "same"
    shelf.files.delete(second.id, None)
    assert shelf.blobs.keys() == []
    assert shelf.count("file_contents") == 0


def test_somebody_else_s_file_is_not_found(shelf: Shelf) -> None:
    file = shelf.upload()
    for look in (shelf.files.get, shelf.files.delete):
        with pytest.raises(FileNotFound, match=file.id):
            look(file.id, "bob")
    assert shelf.files.get(file.id, None) == file


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"purpose": "batch"}, "purpose"),
        ({"purpose": "fine-tune-results"}, "purpose"),
        ({"purpose": "batch", "made_here": True}, "purpose"),
        ({"filename": ""}, "file"),
        ({"filename": " \n\t "}, "file"),
        ({"filename": "x" * 513}, "file"),
        ({"filename": "half \ud83d"}, "file"),
        ({"expires_seconds": 3_599}, "expires_after[seconds]"),
        ({"expires_seconds": 2_592_001}, "expires_after[seconds]"),
        ({"text": ""}, "file"),
    ],
)
def test_what_cannot_be_a_file(shelf: Shelf, given: dict[str, object], param: str) -> None:
    with pytest.raises(FileInvalid) as refused:
        shelf.upload(**{"text": "x", **given})  # type: ignore[arg-type]
    assert refused.value.param == param
    assert shelf.count("files") == 0
    assert shelf.blobs.keys() == []


def test_the_server_adds_files_of_a_purpose_of_its_own(shelf: Shelf) -> None:
    file = shelf.upload("step,train_loss", purpose="fine-tune-results", made_here=True)
    assert file.as_object()["purpose"] == "fine-tune-results"
    assert shelf.files.list("ana", purpose="fine-tune-results").items == (file,)
    assert shelf.files.path(file).read_text() == "step,train_loss"


def test_a_file_that_is_too_large(shelf: Shelf) -> None:
    shelf.upload("x" * 1_000)
    with pytest.raises(FileTooLarge, match="1001 bytes; a file may have 1000"):
        shelf.upload("x" * 1_001)


def test_a_name_cannot_pose_as_further_lines(shelf: Shelf) -> None:
    assert shelf.upload(filename="a\r\n[2] b\x00\u2028.txt").filename == "a  [2] b  .txt"


def test_pages_of_one_s_own(shelf: Shelf) -> None:
    ids = []
    for n in range(5):
        shelf.clock.now += n % 2  # some at the same moment
        ids.append(shelf.upload(f"text {n}", purpose="assistants" if n else "user_data").id)
    shelf.upload("not mine", owner="bob")
    everything = [file.id for file in shelf.files.list("ana").items]
    assert set(everything) == set(ids)
    assert [file.id for file in shelf.files.list("ana", order="asc").items] == everything[::-1]
    walked, after = [], None
    while True:
        page = shelf.files.list("ana", limit=2, after=after)
        walked += [file.id for file in page.items]
        if not page.has_more:
            break
        after = walked[-1]
    assert walked == everything
    before = shelf.files.list("ana", limit=2, before=everything[3])
    assert ([file.id for file in before.items], before.has_more) == (everything[1:3], True)
    assert [file.id for file in shelf.files.list("ana", purpose="user_data").items] == [ids[0]]
    assert len(shelf.files.list(None).items) == 6
    stranger = shelf.files.list("bob").items[0].id
    with pytest.raises(CursorUnknown):
        shelf.files.list("ana", after=stranger)


def test_a_file_expires_at_once_and_is_swept_later(shelf: Shelf) -> None:
    store = shelf.stores.create("ana")
    file = shelf.upload(expires_seconds=3_600)
    shelf.attachments.attach(store.id, file.id)
    shelf.complete(shelf.queue.claim("test"), ["one"])
    chunk_id = shelf.changes.since(store.id, 0, fingerprint=None).chunks[0].chunk_id
    shelf.clock.now += 3_600
    with pytest.raises(FileNotFound):
        shelf.files.get(file.id, "ana")
    assert shelf.files.list("ana").items == ()
    assert shelf.passages.load([chunk_id]) == {}
    assert shelf.files.purge_expired() == 1
    assert shelf.files.purge_expired() == 0
    assert shelf.blobs.keys() == []
    assert shelf.count("chunks") == shelf.count("vector_store_files") == 0


def test_a_store_of_bytes_that_is_away_is_asked_once_and_not_while_others_cannot_write(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {shelf.upload(text, expires_seconds=3_600).digest for text in ("one", "two", "three")}
    shelf.clock.now += 3_600
    asked: list[str] = []

    def down(keys: str | list[str]) -> None:
        with shelf.database.write():  # on SQLite this fails inside another
            asked.extend([keys] if isinstance(keys, str) else keys)
        raise ConnectionError("the store of bytes does not answer")

    with monkeypatch.context() as patched:
        for name in ("files", "remove"):
            patched.setattr(shelf.blobs, name, down)
        assert shelf.files.purge_expired() == 3
    assert len(asked) == 1
    assert shelf.files.list(None).items == ()
    assert len(shelf.blobs.keys()) == 3
    assert sweep(shelf.database, shelf.blobs, clock=shelf.clock).contents == len(digests)
    assert shelf.blobs.keys() == []


def test_a_delete_reaches_every_store(shelf: Shelf) -> None:
    stores = [shelf.stores.create("ana") for _ in range(3)]
    file, other = shelf.upload("first"), shelf.upload("second")
    for store in stores:
        for one in (file, other):
            shelf.attachments.attach(store.id, one.id)
            assert shelf.complete(shelf.queue.claim("test"), [f"{one.id} a", f"{one.id} b"])
    before = {store.id: shelf.changes.since(store.id, 0, fingerprint=None) for store in stores}
    shelf.files.delete(file.id, "ana")
    for store in stores:
        with pytest.raises(StoreFileNotFound):
            shelf.attachments.get(store.id, file.id)
        then = before[store.id]
        number = next(state.number for state in then.files if state.file_id == file.id)
        delta = shelf.changes.since(store.id, then.generation, fingerprint=None)
        assert (delta.full, list(delta.removed), delta.chunks, delta.files) == (False, [number], [], [])
        gone = [one.chunk_id for one in then.chunks if one.number == number]
        kept = [one.chunk_id for one in then.chunks if one.number != number]
        assert shelf.passages.load(gone) == {}
        assert set(shelf.passages.load(kept)) == set(kept)
    assert shelf.count("chunks") == shelf.count("windows") == 6


def test_bytes_that_somebody_took_away_are_said_to_be_gone(shelf: Shelf) -> None:
    file = shelf.upload()
    shelf.blobs.remove(f"files/{file.digest}")
    with pytest.raises(FileNotFound, match="gone from the disk"):
        shelf.files.path(file)


def test_a_file_is_deleted_though_its_bytes_cannot_be(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: str) -> None:
        raise ConnectionError("the store of bytes does not answer")

    file = shelf.upload()
    with monkeypatch.context() as patched:
        patched.setattr(shelf.blobs, "remove", down)
        assert shelf.files.delete(file.id, "ana") == file
    with pytest.raises(FileNotFound):
        shelf.files.get(file.id, None)
    assert shelf.blobs.keys() == [f"files/{file.digest}"]
    assert sweep(shelf.database, shelf.blobs, clock=shelf.clock).contents == 1
    assert shelf.blobs.keys() == []


@pytest.mark.parametrize("damage", ["cut", "lost"])
def test_the_same_bytes_again_mend_what_was_damaged(shelf: Shelf, damage: str) -> None:
    first = shelf.upload("some bytes")
    path = shelf.files.path(first)
    if damage == "cut":
        path.write_text("some")
    else:
        path.rename(path.with_name("other"))
    shelf.upload("some bytes")
    assert shelf.files.path(first).read_text() == "some bytes"


def test_a_full_disk_leaves_no_trace(database: Database, tmp_path: Path) -> None:
    class Full(LocalBlobs):
        def commit(self, folder: Path, key: str) -> Path:
            raise OSError(errno.ENOSPC, "no space left on device")

    shelf = Shelf(database, Full(tmp_path / "blobs"))
    with pytest.raises(OSError, match="no space"):
        shelf.upload()
    assert shelf.count("files") == shelf.count("file_contents") == 0


def test_the_same_bytes_are_not_lost_when_one_file_goes_while_another_comes(shelf: Shelf) -> None:
    """Deletes and uploads of one content at once, many times: an upload that was acknowledged always has its bytes."""
    errors: list[BaseException] = []
    start = threading.Barrier(3)

    def come_and_go() -> None:
        try:
            start.wait()
            for _ in range(15):
                file = shelf.upload("contested")
                assert shelf.files.path(file).read_text() == "contested"
                shelf.files.delete(file.id, "ana")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert shelf.blobs.keys() == []


def test_an_upload_between_a_delete_and_the_removal_of_its_bytes(shelf: Shelf) -> None:
    file = shelf.upload("contested")
    with shelf.database.write() as connection:  # a delete that was killed before it removed the bytes
        connection.execute(sa.delete(tables.files))
    again = shelf.upload("contested")
    sweep(shelf.database, shelf.blobs, clock=shelf.clock)
    assert shelf.files.path(again).read_text() == "contested"
    assert again.digest == file.digest


def test_an_upload_that_took_too_long_was_given_up(shelf: Shelf) -> None:
    class Slow(LocalBlobs):
        def commit(self, folder: Path, key: str) -> Path:
            shelf.clock.now += 4_000
            sweep(shelf.database, shelf.blobs, clock=shelf.clock)
            return super().commit(folder, key)

    files = Files(shelf.database, Slow(shelf.blobs._root), max_bytes=100, clock=shelf.clock)
    with files.staging() as folder:
        (folder / "content").write_text("late")
        with pytest.raises(FileNotFound, match="send it again"):
            files.add(folder, filename="a", purpose="assistants", owner="ana")
    assert shelf.blobs.keys() == []
    assert shelf.count("file_contents") == 0


def test_writes_are_told(shelf: Shelf) -> None:
    files = Files(
        shelf.database,
        shelf.blobs,
        max_bytes=100,
        clock=shelf.clock,
        on_write=lambda connection: feed.bump(connection, "files"),
    )
    with files.staging() as folder:
        (folder / "content").write_text("x")
        file = files.add(folder, filename="a", purpose="assistants", owner="ana")
    assert Feed(shelf.database).generations() == {"files": 1}
    files.delete(file.id, "ana")
    assert Feed(shelf.database).generations() == {"files": 2}
