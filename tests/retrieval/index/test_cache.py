from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.index.cache import Cache, Facts

FACTS = Facts(generation=7, fingerprint="f", kind="dense")


def fill(folder: Path, text: str = "some bytes") -> None:
    (folder / "a.bin").write_text(text)
    (folder / "b.bin").write_bytes(b"\x00" * 5_000)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_what_was_saved_is_loaded(cache: Cache) -> None:
    assert cache.load() is None
    cache.save(FACTS, fill)
    loaded = cache.load()
    assert loaded is not None
    assert loaded[1] == FACTS
    assert (loaded[0] / "a.bin").read_text() == "some bytes"


def test_the_next_replaces_it_and_leaves_nothing_behind(cache: Cache) -> None:
    first = cache.save(FACTS, fill)
    second = cache.save(Facts(generation=8, fingerprint=None, kind="x"), lambda folder: fill(folder, "new"))
    assert not first.exists()
    loaded = cache.load()
    assert loaded is not None
    assert loaded[0] == second
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([second.name, "manifest.json"])


def test_a_failed_save_leaves_the_old_one(cache: Cache) -> None:
    cache.save(FACTS, fill)

    def broken(folder: Path) -> None:
        fill(folder)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        cache.save(Facts(generation=8, fingerprint=None, kind="x"), broken)
    loaded = cache.load()
    assert loaded is not None
    assert loaded[1] == FACTS
    assert len(list(cache.folder.iterdir())) == 2


def truncate(files: Path, _manifest: Path) -> None:
    os.truncate(files / "b.bin", 4_999)


def flip(files: Path, _manifest: Path) -> None:
    content = bytearray((files / "b.bin").read_bytes())
    content[1_234] ^= 1
    (files / "b.bin").write_bytes(content)


def remove(files: Path, _manifest: Path) -> None:
    (files / "a.bin").unlink()


def add(files: Path, _manifest: Path) -> None:
    (files / "c.bin").write_text("who wrote this?")


def other_format(_files: Path, manifest: Path) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 0}))


def escape(_files: Path, manifest: Path) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"folder": "../../etc"}))


def torn(_files: Path, manifest: Path) -> None:
    manifest.write_text(manifest.read_text()[:40])


def empty(_files: Path, manifest: Path) -> None:
    manifest.write_bytes(b"")


def no_object(_files: Path, manifest: Path) -> None:
    manifest.write_text("[1, 2]")


def binary(_files: Path, manifest: Path) -> None:
    manifest.write_bytes(os.urandom(300))


def no_manifest(_files: Path, manifest: Path) -> None:
    manifest.unlink()


DAMAGES = [truncate, flip, remove, add, other_format, escape, torn, empty, no_object, binary, no_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_not_loaded(cache: Cache, damage: object) -> None:
    files = cache.save(FACTS, fill)
    damage(files, cache.folder / "manifest.json")  # type: ignore[operator]  # one of the functions above
    assert cache.load() is None
    cache.save(FACTS, fill)
    assert cache.load() is not None


SAVES_FOR_EVER = """
import sys
from pathlib import Path
from retrieval.index.cache import Cache, Facts

def fill(folder, i):
    for name in ("a", "b", "c"):
        (folder / name).write_text(f"{i} " * 20_000)

for i in range(1, 10**9):
    Cache(Path(sys.argv[1])).save(Facts(generation=i, fingerprint=None, kind="x"), lambda folder: fill(folder, i))
    if i == 3:
        print("going", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_cache(cache: Cache) -> None:
    for _ in range(5):
        arguments = [sys.executable, "-c", SAVES_FOR_EVER, str(cache.folder)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        loaded = cache.load()
        assert loaded is not None
        files, facts = loaded
        assert facts.generation >= 3
        assert (files / "b").read_text().startswith(f"{facts.generation} ")
    cache.save(FACTS, fill)
    assert len(list(cache.folder.iterdir())) == 2  # nor does anything of the killed ones stay
