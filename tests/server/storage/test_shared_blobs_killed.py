"""`kill -9` while a blob goes into a bucket: at every step it is there whole or not at all."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.storage.blob_cache import BlobCache
from server.storage.object_store import ObjectStore
from server.storage.shared_blobs import SharedBlobs
from tests.s3 import session

WRITER = """
import itertools, os, signal, sys
from pathlib import Path
from server.storage.blob_cache import BlobCache
from server.storage.object_store import ObjectStore
from server.storage.shared_blobs import SharedBlobs

url, folder, run, deadly = sys.argv[1:]
asked = itertools.count(1)

class Deadly(ObjectStore):
    def _filesystem(self, read_seconds):
        filesystem = super()._filesystem(read_seconds)
        for name in ("put_file", "pipe_file", "rm_file"):
            def counted(*args, real=getattr(filesystem, name), **given):
                if next(asked) == int(deadly):
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **given)
            setattr(filesystem, name, counted)
        return filesystem

blobs = SharedBlobs(Deadly(url), BlobCache(Path(folder), most_bytes=2**30))

def store(key):
    with blobs.staging() as staged:
        for part in ("one", "two"):
            (staged / part).write_text(key * 1000)
        blobs.commit(staged, key)

for i in itertools.count():
    key = f"adapters/{run}-{i}"
    store(key)
    print("put", key, flush=True)
    if i % 2:
        blobs.remove(key)
        print("removed", key, flush=True)
"""


class Bucket:
    """What a fresh machine finds there."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        self.url = url
        self.tmp_path = tmp_path
        self.objects = ObjectStore(url, session=session())

    def machine(self, name: str, days: float = 0) -> SharedBlobs:
        cache = BlobCache(self.tmp_path / name, most_bytes=2**30)
        return SharedBlobs(self.objects, cache, now=lambda: datetime.now(UTC) + timedelta(days=days))

    def write(self, run: str, deadly: int) -> list[str]:
        """Have a process write until its so-manieth change of the bucket kills it; what it had said was done."""
        command = [sys.executable, "-c", WRITER, self.url, str(self.tmp_path / "writer"), run, str(deadly)]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        assert child.returncode == -9
        return child.stdout.splitlines()

    def check(self, told: list[str], kills: int) -> None:
        put = {line.split()[1] for line in told if line.startswith("put")}
        removed = {line.split()[1] for line in told if line.startswith("removed")}
        reader = self.machine("reader")
        keys = set(reader.keys())
        assert len((put - removed) - keys) <= kills  # its removal had begun
        assert not removed & keys
        for key in keys:
            parts = {path.name: path.read_text() for path in reader.path(key).iterdir()}
            assert parts == {"one": key * 1000, "two": key * 1000}
        self.machine("writer", days=2).tidy()
        data = [one.name for one in self.objects.listed("data/")]
        assert {name.partition("/-")[0].removeprefix("data/") for name in data} == keys
        assert len(data) == 2 * len(keys)


@pytest.fixture
def place(bucket: str, tmp_path: Path) -> Bucket:
    return Bucket(f"{bucket}/prefix", tmp_path)


@pytest.mark.parametrize(
    ("deadly", "expected", "left"),
    [
        (2, [], 1),  # between the two files
        (3, [], 2),  # before the manifest
        (7, ["adapters/run-0", "adapters/run-1"], 4),  # before the manifest of a blob that is removed goes
        (8, ["adapters/run-0"], 4),  # after it
    ],
)
def test_a_kill_between_two_steps(place: Bucket, deadly: int, expected: list[str], left: int) -> None:
    told = place.write("run", deadly)
    assert place.machine("fresh").keys() == expected
    assert len(list(place.objects.listed("data/"))) == left
    place.check(told, kills=1)


@pytest.mark.prove
def test_kills_at_any_step(place: Bucket) -> None:
    chance = random.Random(20)
    told = [line for i in range(100) for line in place.write(f"run{i}", chance.randrange(1, 60))]
    place.check(told, kills=100)
