"""The ingestion process itself, over a data directory: it works, ends when told to, and is idle where it is heavy."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from retrieval.attachments import Attachments
from retrieval.files import Files
from retrieval.stores import Stores
from server.ingestion_process import _keep_working
from server.pauses import Pauses
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.errors import DatabaseUnavailable

LONG_SECONDS = 400  # what is idle gets little of a busy machine; a test that waits so long has failed


class Owner:
    """Who uploads and attaches, from outside the process."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'manyhats.db'}")
        self.database.migrate()
        self.files = Files(self.database, LocalBlobs(folder / "blobs"), max_bytes=10**6)
        self.attachments = Attachments(self.database)
        self.store_id = Stores(self.database).create("ana").id

    def attach(self, text: str) -> str:
        with self.files.staging() as staged:
            (staged / "content").write_text(text)
            file = self.files.add(staged, filename="note.txt", purpose="assistants", owner="ana")
        self.attachments.attach(self.store_id, file.id)
        return file.id

    def status(self, file_id: str) -> str:
        return self.attachments.get(self.store_id, file_id).status


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = Owner(tmp_path)
    with closing(made.database):
        yield made


@pytest.fixture
def start(tmp_path: Path, embedder_cache: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the process over the test's data directory; whatever is left of it is killed at the end."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "embedder").symlink_to(embedder_cache)
    started: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MANYHATS_")}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "server", "ingestion", "--parent", str(os.getpid())],
                env={**ours, "MANYHATS_DATA_DIR": str(tmp_path)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for another process's work, which tells nobody when it is done."""
    deadline = time.monotonic() + LONG_SECONDS
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def policies(process: subprocess.Popen[str]) -> dict[int, int]:
    """Each thread's scheduling policy."""
    return {
        int(task.name): os.sched_getscheduler(int(task.name)) for task in Path(f"/proc/{process.pid}/task").iterdir()
    }


def test_files_are_read_and_it_ends_when_told_to(owner: Owner, start: Callable[[], subprocess.Popen[str]]) -> None:
    first = owner.attach("The office opens at nine.")
    process = start()
    until(lambda: owner.status(first) == "completed", process)
    later = owner.attach("The office closes at five.")
    until(lambda: owner.status(later) == "completed", process)
    running = policies(process)
    assert running[process.pid] == os.SCHED_OTHER  # it writes the database
    assert os.SCHED_IDLE in running.values()  # it reads and embeds
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_SECONDS) == 0
    _, alive = psutil.wait_procs(family, timeout=LONG_SECONDS)
    assert not alive


def test_without_files_it_waits_without_a_model(owner: Owner, start: Callable[[], subprocess.Popen[str]]) -> None:
    process = start()
    # it polls the database, so its file is open once it works
    until(lambda: any("manyhats.db" in file.path for file in psutil.Process(process.pid).open_files()), process)
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "torch" not in maps
    assert "openvino" not in maps
    process.terminate()
    assert process.wait(LONG_SECONDS) == 0


def test_a_killed_process_s_work_is_taken_up_at_once(owner: Owner, start: Callable[[], subprocess.Popen[str]]) -> None:
    file_id = owner.attach(" ".join(f"Sentence number {n} says something of its own." for n in range(4000)))
    process = start()
    until(lambda: owner.attachments.get(owner.store_id, file_id).chunks_done > 0, process)
    process.kill()
    process.wait()
    began = time.monotonic()
    done = owner.attachments.get(owner.store_id, file_id).chunks_done
    process = start()
    until(lambda: owner.attachments.get(owner.store_id, file_id).chunks_done > done, process)
    assert time.monotonic() - began < 55  # it does not wait for the dead one's lease of a minute


def test_a_database_that_is_away_is_looked_for_every_second() -> None:
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return False

    def work() -> None:
        if len(waits) < 20:
            raise DatabaseUnavailable("gone")

    _keep_working(work, Stop(), Pauses("ingestion", logging.getLogger("manyhats.tests")))
    assert waits == [1.0] * 20
