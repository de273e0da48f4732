from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from server.storage import data_lock
from server.storage.data_lock import DataLock, read_address
from server.storage.errors import DataDirBusy

HOLDER = """
import sys
from pathlib import Path
from server.storage.data_lock import DataLock
with DataLock(Path(sys.argv[1])) as lock:
    lock.write_address("http://127.0.0.1:8123")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_lock, "PATIENCE_SECONDS", 0.0)
    with DataLock(tmp_path) as lock:
        lock.write_address("http://127.0.0.1:8000")
        with pytest.raises(DataDirBusy, match=r"listening on http://127\.0\.0\.1:8000"):
            DataLock(tmp_path)
        assert read_address(tmp_path) == "http://127.0.0.1:8000"  # being refused takes nothing away
    DataLock(tmp_path).close()


def test_the_address_is_the_holders(tmp_path: Path) -> None:
    assert read_address(tmp_path) is None
    with DataLock(tmp_path) as lock:
        assert read_address(tmp_path) is None
        lock.write_address("http://a-rather-long-name.example:8000")
        lock.write_address("http://b:1")
        assert read_address(tmp_path) == "http://b:1"
    assert read_address(tmp_path) is None
    with DataLock(tmp_path):
        assert read_address(tmp_path) is None  # not the last holder's


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    assert child.stdout.readline() == "held\n"
    assert read_address(tmp_path) == "http://127.0.0.1:8123"
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert read_address(tmp_path) is None
    DataLock(tmp_path).close()


def test_children_do_not_inherit_it(tmp_path: Path) -> None:
    with DataLock(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    DataLock(tmp_path).close()
    child.communicate()


def test_the_directory_is_private(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    with DataLock(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "lock").stat().st_mode) == 0o600


def test_readers_do_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    stop = threading.Event()

    def keep_reading() -> None:
        while not stop.is_set():
            read_address(tmp_path)

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    DataLock(tmp_path).close()
    for reader in readers:
        reader.start()
    try:
        for _ in range(50):
            DataLock(tmp_path).close()
    finally:
        stop.set()
        for reader in readers:
            reader.join()
