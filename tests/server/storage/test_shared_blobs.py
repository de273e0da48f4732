"""Blobs in a bucket that several machines write at once, whose server fails, and of which only some is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from server.storage import shared_blobs
from server.storage.blob_cache import BlobCache
from server.storage.errors import BlobsUnavailable
from server.storage.object_store import ObjectStore
from server.storage.shared_blobs import SharedBlobs
from tests.s3 import session

KEY = "files/ab12"


class Watched(ObjectStore):
    """Counts what is asked, and fails, or lets somebody else go first, where it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url, session=session())
        self.asked: list[str] = []
        self.is_down = False
        self.before: dict[str, Callable[[], None]] = {}

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.is_down:
            raise BlobsUnavailable("down")
        self.before.pop(what, lambda: None)()

    def read(self, name: str) -> bytes | None:
        self._ask("read")
        return super().read(name)

    def create(self, name: str, content: bytes) -> bool:
        self._ask("create")
        return super().create(name, content)

    def upload(self, file: Path, name: str) -> None:
        self._ask("upload")
        super().upload(file, name)

    def download(self, name: str, file: Path) -> None:
        self._ask("download")
        super().download(name, file)

    def delete(self, name: str) -> None:
        self._ask("delete")
        super().delete(name)

    def names(self) -> list[str]:
        return [one.name for one in self.listed("")]


class Machine:
    """One data directory and the process that serves it."""

    def __init__(self, url: str, folder: Path, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.objects = Watched(url)
        self.cache = BlobCache(folder, most_bytes=2**30)
        self.folder = folder
        self.blobs = SharedBlobs(self.objects, self.cache, clock=clock, now=now)

    def store(self, content: str = "weights", key: str = KEY) -> Path:
        with self.blobs.staging() as folder:
            (folder / "file").write_text(content)
            return self.blobs.commit(folder, key)

    def text(self, key: str = KEY) -> str:
        return (self.blobs.path(key) / "file").read_text()


class Time:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.passed = 0.0

    def clock(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.passed)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def one(bucket: str, tmp_path: Path, time: Time) -> Machine:
    return Machine(f"{bucket}/prefix", tmp_path / "one", time.clock, time.now)


@pytest.fixture
def two(bucket: str, tmp_path: Path, time: Time) -> Machine:
    return Machine(f"{bucket}/prefix", tmp_path / "two", time.clock, time.now)


def test_nothing_is_there_before_the_manifest(one: Machine, two: Machine) -> None:
    def look() -> None:
        assert [name.partition("/")[0] for name in two.objects.names()] == ["data"]
        assert two.blobs.keys() == []
        with pytest.raises(FileNotFoundError):
            two.blobs.path(KEY)

    one.objects.before["create"] = look
    one.store()
    assert two.text() == "weights"
    assert one.objects.asked.count("download") == 0  # the uploader has what it has sent
    assert two.objects.asked.count("download") == 1


def test_a_writer_that_comes_second_takes_what_is_there(one: Machine, two: Machine) -> None:
    one.objects.before["create"] = lambda: two.store("second machine") and None
    assert (one.store("first machine") / "file").read_text() == "second machine"
    assert len(one.objects.names()) == 2  # one manifest, one file: the other upload is deleted


def test_the_same_bytes_of_two_writers_are_not_fetched(one: Machine, two: Machine) -> None:
    one.objects.before["create"] = lambda: two.store() and None
    assert (one.store() / "file").read_text() == "weights"
    two.store()
    assert "download" not in one.objects.asked + two.objects.asked
    assert len(one.objects.names()) == 2


def test_without_conditional_writes_the_later_one_stays_whole(
    one: Machine, two: Machine, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwriting(self: ObjectStore, name: str, content: bytes) -> bool:
        self._quick().pipe_file(self._place(name), content)
        return True

    monkeypatch.setattr(ObjectStore, "create", overwriting)
    one.objects.before["create"] = lambda: two.store("second machine") and None
    one.store("first machine")
    time.passed += 2
    assert one.text() == two.text() == "first machine"
    time.passed += 2 * 86_400
    two.blobs.tidy()
    assert len(two.objects.names()) == 2
    assert one.text() == two.text() == "first machine"


def test_an_answer_that_was_lost_is_no_second_writer(one: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    create = ObjectStore.create

    def written_and_then_refused(self: ObjectStore, name: str, content: bytes) -> bool:
        assert create(self, name, content)
        return create(self, name, content)  # what a repetition of the same request is told

    monkeypatch.setattr(ObjectStore, "create", written_and_then_refused)
    assert (one.store() / "file").read_text() == "weights"
    assert len(one.objects.names()) == 2


def test_what_was_prepared_has_only_the_manifest_left(one: Machine) -> None:
    with one.blobs.staging() as folder:
        (folder / "file").write_text("weights")
        one.blobs.prepare(folder, KEY)
        one.objects.asked.clear()
        one.blobs.commit(folder, KEY)
    assert one.objects.asked == ["create"]
    with one.blobs.staging() as folder:
        (folder / "file").write_text("weights")
        one.blobs.prepare(folder, KEY)  # is there already
    assert "upload" not in one.objects.asked
    assert len(one.objects.names()) == 2


@pytest.mark.parametrize("is_whole", [True, False])
def test_what_came_after_it_was_prepared_stays_if_it_is_whole(one: Machine, two: Machine, is_whole: bool) -> None:
    with one.blobs.staging() as folder:
        (folder / "file").write_text("first machine")
        one.blobs.prepare(folder, KEY)
        [mine] = one.objects.names()
        two.store("second machine")
        [theirs] = {name for name in one.objects.names() if name.startswith("data/")} - {mine}
        if not is_whole:
            one.objects.delete(theirs)
        path = one.blobs.commit(folder, KEY)
    assert (path / "file").read_text() == ("second machine" if is_whole else "first machine")
    assert len(one.objects.names()) == 2  # one manifest, one file


def test_a_prepared_folder_that_is_not_committed_leaves_nothing(one: Machine) -> None:
    with one.blobs.staging() as folder:
        (folder / "file").write_text("weights")
        one.blobs.prepare(folder, KEY)
        assert len(one.objects.names()) == 1
    assert one.objects.names() == []


def test_what_was_removed_elsewhere_is_not_given_from_the_copies(one: Machine, two: Machine, time: Time) -> None:
    one.store()
    assert two.text() == "weights"
    one.blobs.remove(KEY)
    time.passed += shared_blobs.BELIEVED_SECONDS
    with pytest.raises(FileNotFoundError):
        two.blobs.path(KEY)
    one.store("other")
    assert two.text() == "other"


def test_a_key_is_asked_for_once_a_second(one: Machine, time: Time) -> None:
    one.store()
    one.objects.asked.clear()
    for _ in range(5):
        one.text()
    assert one.objects.asked == []
    time.passed += 1
    for _ in range(5):
        one.text()
    assert one.objects.asked == ["read"]


def test_what_is_removed_while_it_is_fetched_is_not_there(one: Machine, two: Machine) -> None:
    one.store()
    two.objects.before["download"] = lambda: one.blobs.remove(KEY)
    with pytest.raises(FileNotFoundError, match="no blob"):
        two.blobs.path(KEY)


def test_what_is_written_anew_while_it_is_fetched_is_fetched_anew(one: Machine, two: Machine) -> None:
    one.store("old")

    def replace() -> None:
        one.blobs.remove(KEY)
        one.store("new")

    two.objects.before["download"] = replace
    assert two.text() == "new"


def test_while_the_store_is_down_copies_are_used_and_all_else_fails(one: Machine, two: Machine, time: Time) -> None:
    one.store()
    one.store("more", "files/cd34")
    two.text()
    time.passed += 60
    two.objects.is_down = True
    two.objects.asked.clear()
    for _ in range(3):
        assert two.text() == "weights"
    assert two.objects.asked == ["read"]  # the next few seconds nobody waits for it again
    with pytest.raises(BlobsUnavailable):
        two.blobs.path("files/cd34")
    with pytest.raises(BlobsUnavailable):
        two.store("new", "files/ef56")
    two.objects.is_down = False
    time.passed += shared_blobs.UNASKED_SECONDS
    assert two.text("files/cd34") == "more"
    one.blobs.remove(KEY)
    with pytest.raises(FileNotFoundError):
        two.blobs.path(KEY)


def test_damage_is_never_given_out(one: Machine, two: Machine, caplog: pytest.LogCaptureFixture) -> None:
    one.store("weights")
    [data] = [name for name in one.objects.names() if name.startswith("data/")]
    one.objects._quick().pipe_file(one.objects._place(data), b"WEIGHTS")
    with pytest.raises(FileNotFoundError, match="damaged"):
        two.blobs.path(KEY)
    assert "other bytes than were put" in caplog.text
    assert list((two.folder / "staging").iterdir()) == []


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_the_same_bytes_again_mend_a_file_that_is(one: Machine, two: Machine, damage: str) -> None:
    one.store()
    [data] = [name for name in one.objects.names() if name.startswith("data/")]
    one.objects.delete(data)
    if damage == "short":
        one.objects._quick().pipe_file(one.objects._place(data), b"w")
    with pytest.raises(FileNotFoundError, match="damaged"):
        two.blobs.path(KEY)
    two.store()
    assert two.text() == "weights"
    assert one.text() == "weights"


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(format=2),
        lambda told: told.update(files={"../../evil": next(iter(told["files"].values()))}),
        lambda told: told.update(files={}),
        lambda told: told.update(upload="../x"),
        lambda told: told.pop("files"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_left_alone(
    one: Machine, two: Machine, time: Time, change: Callable[[dict[str, Any]], object]
) -> None:
    one.store()
    manifest = f"blobs/{KEY}.json"
    told = json.loads(one.objects.read(manifest) or b"")
    change(told)
    one.objects._quick().pipe_file(one.objects._place(manifest), json.dumps(told).encode())
    with pytest.raises(FileNotFoundError):
        two.blobs.path(KEY)
    with pytest.raises(BlobsUnavailable, match="cannot be used"):
        two.store("new")
    time.passed += 2 * 86_400
    two.blobs.tidy()
    assert len([name for name in one.objects.names() if name.startswith("data/")]) >= 1
    two.blobs.remove(KEY)
    assert (two.store("new") / "file").read_text() == "new"


def test_tidying_deletes_what_has_no_manifest_after_a_day(one: Machine, two: Machine, time: Time) -> None:
    one.store()
    two.text()
    one.objects.before["create"] = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # killed before the manifest
    with pytest.raises(KeyboardInterrupt):
        one.store("x", "files/cd34")
    one.blobs.tidy()
    assert len(one.objects.names()) == 3
    time.passed += 86_400 + 60
    one.blobs.tidy()
    assert len(one.objects.names()) == 2
    assert one.text() == two.text() == "weights"


def test_tidying_throws_out_copies_of_what_is_gone(one: Machine, two: Machine) -> None:
    one.store()
    one.store("other", "files/cd34")
    two.text()
    two.text("files/cd34")
    one.blobs.remove(KEY)
    two.blobs.tidy()
    assert [copy.key for copy in two.cache.all()] == ["files/cd34"]
    assert [copy.key for copy in one.cache.all()] == ["files/cd34"]


def test_tidying_lists_the_store_once_a_day(one: Machine, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    listings: list[str] = []
    monkeypatch.setattr(one.objects, "listed", lambda prefix: listings.append(prefix) or iter(()))
    for _ in range(3):
        one.blobs.tidy()
    assert len(listings) == 2
    time.passed += 86_400
    one.blobs.tidy()
    assert len(listings) == 4
