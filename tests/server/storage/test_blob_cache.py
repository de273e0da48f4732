"""Copies: whole, known by their upload, and thrown out when nobody has asked for them for long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from server.storage.blob_cache import KEEP_SECONDS, BlobCache, LastCopy
from server.storage.blob_manifest import Manifest


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> BlobCache:
    return BlobCache(tmp_path / "cache", most_bytes=250, clock=clock)


def put(cache: BlobCache, key: str, n_bytes: int = 100) -> Manifest:
    with cache.staging() as folder:
        (folder / "file").write_bytes(b"x" * n_bytes)
        manifest = Manifest.of(folder, key)
        path = cache.adopt(folder, manifest)
    assert sorted(one.name for one in path.iterdir()) == ["file"]
    return manifest


def test_a_copy_is_found_by_its_upload(cache: BlobCache, tmp_path: Path, clock: Clock) -> None:
    manifest = put(cache, "files/a")
    again = BlobCache(tmp_path / "cache", most_bytes=250, clock=clock)  # another process
    found = again.find(manifest)
    assert found is not None
    assert (found / "file").read_bytes() == b"x" * 100
    assert again.all() == [manifest]
    assert again.find(Manifest(key="files/a", upload="0" * 32, files=manifest.files)) is None
    again.drop(manifest)
    assert cache.find(manifest) is None


def test_what_was_asked_for_longest_ago_goes_first(cache: BlobCache, clock: Clock) -> None:
    old, used = put(cache, "files/old"), put(cache, "files/used")
    clock.now += KEEP_SECONDS / 2
    assert cache.find(used)
    clock.now += KEEP_SECONDS / 2
    new = put(cache, "files/new")
    assert [cache.find(one) is not None for one in (old, used, new)] == [False, True, True]


def test_what_was_asked_for_lately_stays_above_the_limit(cache: BlobCache, clock: Clock) -> None:
    manifests = [put(cache, f"files/{i}") for i in range(5)]
    assert all(cache.find(one) for one in manifests)
    clock.now += KEEP_SECONDS
    cache.sweep()
    assert sum(cache.find(one) is not None for one in manifests) == 2


def test_copies_of_other_processes_are_counted(cache: BlobCache, tmp_path: Path, clock: Clock) -> None:
    other = BlobCache(tmp_path / "cache", most_bytes=250, clock=clock)
    put(cache, "files/0")
    theirs = [put(other, f"files/theirs-{i}") for i in range(2)]
    clock.now += KEEP_SECONDS
    put(cache, "files/1")
    assert sum(one in cache.all() for one in theirs) < 2


def test_what_is_asked_for_while_it_is_to_go_stays(
    cache: BlobCache, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = [put(cache, f"files/{i}") for i in range(3)]
    clock.now += KEEP_SECONDS
    copies = list(cache._copies())

    def asked_for_after_the_look() -> list[object]:
        for one in manifests:
            assert cache.find(one)
        return list(copies)

    monkeypatch.setattr(cache, "_copies", asked_for_after_the_look)
    cache.sweep()
    assert all(cache.find(one) for one in manifests)


def test_one_at_a_time_makes_a_copy(cache: BlobCache) -> None:
    manifest = Manifest(key="files/a", upload="ab" * 16, files={})
    entered, inside = threading.Event(), []

    def make() -> None:
        entered.set()
        with cache.making(manifest):
            inside.append("other")

    thread = threading.Thread(target=make)
    with cache.making(manifest):
        thread.start()
        entered.wait()
        inside.append("mine")
    thread.join()
    assert inside == ["mine", "other"]


def test_the_last_meaning_of_a_key_is_known_without_the_store(cache: BlobCache, clock: Clock) -> None:
    assert cache.last_known("files/a") is None
    first = put(cache, "files/a")
    clock.now += 10
    second = put(cache, "files/a", 50)
    put(cache, "files/b")
    assert cache.last_known("files/a") == second
    clock.now += 10
    assert cache.find(first)
    assert cache.last_known("files/a") == first


def test_a_kill_leaves_no_half_copy(cache: BlobCache, tmp_path: Path) -> None:
    staged = tmp_path / "cache" / "staging" / "0123"
    staged.mkdir()
    (staged / "half").touch()
    cache.sweep()
    assert not staged.exists()
    assert cache.all() == []


def test_of_those_that_are_asked_for_once_the_last_is_kept(tmp_path: Path) -> None:
    cache = LastCopy(tmp_path / "cache")
    manifests = [put(cache, f"files/{i}") for i in range(3)]
    assert [cache.find(one) is not None for one in manifests] == [False, False, True]
