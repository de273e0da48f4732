"""Files and rows, when files are shared, lost, orphaned or still needed, and when others write at the same time."""

from __future__ import annotations

import multiprocessing
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from adapters.errors import AdapterNotFound, AliasInvalid, NameTaken
from adapters.manifest import Manifest
from adapters.registry import FETCHING_SECONDS, Registry
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from tests.databases import only_sqlite

Stage = Callable[[str], tuple[Path, Manifest]]


def test_files_go_when_no_name_has_them_and_nobody_uses_them(registry: Registry, stage: Stage):
    version, _ = registry.add("legal", *stage("one"), source="upload")
    registry.add("medical", *stage("one"), source="upload")
    registry.remove("legal")
    assert registry.collect() == []
    registry.remove("medical")
    assert registry.collect(in_use={version.digest}) == []
    assert registry.path(version).is_dir()
    assert registry.collect() == [version.digest]
    with pytest.raises(AdapterNotFound, match="files are gone"):
        registry.path(version)
    assert registry.collect() == []


def test_one_version_s_files_go_and_the_others_stay(registry: Registry, stage: Stage):
    one, _ = registry.add("legal", *stage("one"), source="upload")
    two, _ = registry.add_version("legal", *stage("two"), source="upload", activate=True)
    registry.remove_version("legal", one.id)
    assert registry.collect() == [one.digest]
    assert registry.path(two).is_dir()


def test_bytes_registered_between_looking_and_deleting_stay(registry: Registry, stage: Stage, monkeypatch):
    version, _ = registry.add("legal", *stage("one"), source="upload")
    registry.remove("legal")
    digests = registry._shelf.digests

    def add_then_list():
        found = list(digests())
        registry.add("again", *stage("one"), source="upload")
        return found

    monkeypatch.setattr(registry._shelf, "digests", add_then_list)
    assert registry.collect() == []
    assert registry.path(registry.resolve("again")) == registry.path(version)


def test_others_write_between_the_deletions_of_two_versions(
    registry: Registry, stage: Stage, database: Database, monkeypatch: pytest.MonkeyPatch
):
    versions = [registry.add(name, *stage(name), source="upload")[0] for name in ("one", "two", "three")]
    for version in versions:
        registry.remove(version.adapter)
    transactions: list[list[str]] = []
    write, remove = database.write, registry._shelf.remove

    def counted_write():
        transactions.append([])
        return write()

    monkeypatch.setattr(database, "write", counted_write)
    monkeypatch.setattr(registry._shelf, "remove", lambda digest: (transactions[-1].append(digest), remove(digest)))
    assert sorted(registry.collect()) == sorted(version.digest for version in versions)
    assert [len(removed) for removed in transactions] == [1, 1, 1]


def test_a_store_that_is_away_is_not_waited_for_in_a_transaction(
    registry: Registry, stage: Stage, blobs: LocalBlobs, database: Database, monkeypatch: pytest.MonkeyPatch
):
    version, _ = registry.add("legal", *stage("one"), source="upload")
    registry.remove("legal")

    def down(keys):
        with database.write():  # on SQLite this fails inside another
            pass
        raise ConnectionError("the store does not answer")

    with monkeypatch.context() as patched:
        for name in ("files", "remove"):
            patched.setattr(blobs, name, down)
        with pytest.raises(ConnectionError):
            registry.collect()
    assert registry.collect() == [version.digest]


def test_recovery_removes_what_was_half_done(registry: Registry, stage: Stage, blobs: LocalBlobs, tmp_path: Path):
    version, _ = registry.add("legal", *stage("one"), source="upload")
    registry.begin("fetched", "hf://org/legal")
    registry.begin("broken", "hf://org/broken")
    registry.fail("broken", "it holds NaN")
    orphan, manifest = stage("nobody's")
    blobs.commit(orphan, f"adapters/{manifest.digest}")
    unfinished = tmp_path / "blobs" / "staging" / "of-a-dead-process"
    unfinished.mkdir()
    registry.recover()
    assert not unfinished.exists()
    assert blobs.keys("adapters/") == [f"adapters/{version.digest}"]
    assert [(adapter.name, adapter.status) for adapter in registry.list()] == [("broken", "failed"), ("legal", "ready")]


def test_recovery_beside_others_leaves_what_they_may_still_fetch(registry: Registry):
    registry.begin("dead", "hf://org/dead")
    registry._clock = lambda: 1_000.0 + FETCHING_SECONDS + 1  # an hour after the first, the second comes
    registry.begin("fetched", "hf://org/legal")
    registry.recover(alone=False)
    assert [adapter.name for adapter in registry.list()] == ["fetched"]


def test_what_a_dead_server_was_fetching_fails_an_hour_later(registry: Registry, stage: Stage):
    registry._clock = lambda: 1_000.0
    registry.begin("dead", "hf://org/dead")
    registry.begin("slow", "hf://org/slow")
    registry._clock = lambda: 1_000.0 + FETCHING_SECONDS
    assert registry.fail_stalled() == 0  # not yet
    registry._clock = lambda: 1_000.0 + FETCHING_SECONDS + 1
    registry.begin("fetched", "hf://org/legal")
    assert registry.fail_stalled() == 2
    assert [(one.name, one.status) for one in registry.list()] == [
        ("dead", "failed"),
        ("fetched", "staging"),
        ("slow", "failed"),
    ]
    assert "not fetched within an hour" in (registry.get("dead").error or "")
    assert registry.begin("dead", "hf://org/dead").status == "staging"
    registry.add("slow", *stage("one"), source="hf://org/slow", begun=True)  # it lived after all
    assert registry.get("slow").status == "ready"
    assert registry.fail_stalled() == 0


@pytest.mark.parametrize("loss", ["folder", "weights", "config"])
def test_lost_files_are_told_and_come_back_with_the_same_bytes(registry: Registry, stage: Stage, loss: str):
    one, _ = registry.add("legal", *stage("one"), source="upload")
    two, _ = registry.add_version("legal", *stage("two"), source="upload")
    folder = registry.path(one)
    if loss == "folder":
        shutil.rmtree(folder)
    else:
        (folder / {"weights": "adapter_model.safetensors", "config": "adapter_config.json"}[loss]).unlink()
    with pytest.raises(AdapterNotFound, match="register the same bytes again"):
        registry.path(one)  # also without a restart
    registry.recover()
    adapter = registry.get("legal")
    assert (adapter.status, adapter.error) == ("failed", f"{one.id} cannot be served: {adapter.versions[0].error}")
    with pytest.raises(AdapterNotFound, match="register the same bytes again"):
        registry.resolve("legal")
    assert registry.resolve(two.id) == two
    registry.move_alias("legal", two.id)
    with pytest.raises(AliasInvalid, match="cannot be served"):
        registry.move_alias("legal", "previous")
    again, created = registry.add("legal", *stage("one"), source="upload")
    assert (again, created) == (one, False)
    assert registry.move_alias("legal", "previous").status == "ready"
    assert registry.path(registry.resolve("legal")) == folder


def test_files_that_were_put_back_are_found_at_the_next_start(registry: Registry, stage: Stage, tmp_path: Path):
    version, _ = registry.add("legal", *stage("one"), source="upload")
    registry.path(version).rename(tmp_path / "aside")
    registry.recover()
    assert registry.get("legal").status == "failed"
    (tmp_path / "aside").rename(tmp_path / "blobs" / "adapters" / version.digest)
    registry.recover()
    assert registry.resolve("legal") == version


def test_a_pinned_name_without_files_is_not_loaded(registry: Registry, stage: Stage):
    version, _ = registry.add("legal", *stage("one"), source="upload", pin=True)
    shutil.rmtree(registry.path(version))
    registry.recover()
    assert registry.pinned() == ()


def test_threads_that_add_one_name_agree_on_one_version(registry: Registry, stage: Stage):
    staged = [stage(word) for word in ("one", "two") * 8]
    barrier = threading.Barrier(len(staged))

    def add(folder: Path, manifest: Manifest) -> str:
        barrier.wait()
        try:
            return "new" if registry.add("legal", folder, manifest, source="upload")[1] else "same"
        except NameTaken:
            return "taken"

    with ThreadPoolExecutor(len(staged)) as pool:
        outcomes = Counter(pool.map(add, *zip(*staged, strict=True)))
    assert outcomes == {"new": 1, "same": 7, "taken": 8}
    assert len(registry.get("legal").versions) == 1


def test_a_moving_alias_always_means_one_of_its_versions(registry: Registry, stage: Stage):
    versions = {registry.add("legal", *stage("one"), source="upload")[0]}
    versions.add(registry.add_version("legal", *stage("two"), source="upload", activate=True)[0])
    done = threading.Event()
    seen: Counter[str] = Counter()

    def resolve() -> None:
        while not done.is_set():
            version = registry.resolve("legal")
            assert version in versions
            seen[version.digest] += 1
            time.sleep(0)  # gives the writer its turn: two threads that never pause would hold it up for seconds

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(resolve) for _ in range(2)]
        try:
            for _ in range(50):
                registry.move_alias("legal", "previous")
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert len(seen) == 2


@only_sqlite
def test_processes_that_add_one_name_agree_on_one_version(tmp_path: Path, database: Database, stage: Stage):
    context = multiprocessing.get_context("spawn")
    staged = [stage(word) for word in ("one", "two", "one", "two")]
    barrier, outcomes = context.Barrier(len(staged)), context.Queue()
    started = [context.Process(target=_add, args=(tmp_path, *each, barrier, outcomes)) for each in staged]
    for process in started:
        process.start()
    got = Counter(outcomes.get(timeout=50) for _ in started)
    for process in started:
        process.join(timeout=10)
        assert process.exitcode == 0
    assert got == {"new": 1, "same": 1, "taken": 2}


def _add(data: Path, folder: Path, manifest: Manifest, barrier: Barrier, outcomes: multiprocessing.Queue) -> None:
    database = Database(f"sqlite:///{data / 'manyhats.db'}")
    registry = Registry(database, LocalBlobs(data / "blobs"), base_name="demo", base_fingerprint="f" * 64)
    barrier.wait(timeout=50)
    try:
        outcomes.put("new" if registry.add("legal", folder, manifest, source="upload")[1] else "same")
    except NameTaken:
        outcomes.put("taken")
    database.close()
