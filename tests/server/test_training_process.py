"""The training worker as a process: small, alone under its name, and gone with all that it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from server.settings import Settings
from server.storage.database import Database
from server.training_process import n_threads, take_name, threads_told
from tests.server.job_desk import JobDesk

LONG_SECONDS = 400  # what is idle gets little of a busy machine; a test that waits so long has failed

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def desk(tmp_path: Path, migrated: Path) -> Iterator[JobDesk]:
    shutil.copyfile(migrated, tmp_path / "manyhats.db")
    with closing(Database(f"sqlite:///{tmp_path / 'manyhats.db'}")) as database:
        yield JobDesk(tmp_path, database)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the worker over the test's data directory; whatever is left of it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MANYHATS_")}
        command = words or ("training", "--parent", str(os.getpid()))
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "server", *command],
                env={**ours, "MANYHATS_DATA_DIR": str(tmp_path), "MANYHATS_MODEL": str(tmp_path / "no-model")},
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


def test_a_name_is_nobody_elses_while_its_bearer_or_a_child_of_it_lives(tmp_path: Path) -> None:
    first, lock = take_name(tmp_path / "workers")
    second, other = take_name(tmp_path / "workers")
    assert first != second
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)
    third, further = take_name(tmp_path / "workers")
    assert third not in (first, second)
    child.communicate(b"\n")
    again, lock = take_name(tmp_path / "workers")
    assert again == first
    for descriptor in (lock, other, further):
        os.close(descriptor)


def test_names_of_two_data_directories_differ(tmp_path: Path) -> None:
    (one, lock), (two, other) = (take_name(tmp_path / folder) for folder in ("a", "b"))
    assert one != two  # they may share a database
    os.close(lock)
    os.close(other)


def test_threads_are_told_to_every_library() -> None:
    assert threads_told(Settings(training_threads=3))["OMP_NUM_THREADS"] == "3"
    assert set(threads_told(Settings(training_threads=3)).values()) == {"3"}
    assert n_threads(Settings()) == max(1, len(os.sched_getaffinity(0)) - 1)


@pytest.mark.parametrize("words", [(), ("worker", "train")], ids=["of a server", "alone"])
def test_a_worker_is_small_and_its_jobs_have_processes_of_their_own(
    desk: JobDesk, start: Start, words: tuple[str, ...]
) -> None:
    job = desk.make(base_fingerprint="f" * 64)
    process = start(*words)
    until(lambda: desk.job(job).is_over, process)
    failed = desk.job(job)
    assert failed.error is not None
    assert failed.error["code"] == "base_missing"  # which its own process has found out
    assert "no-model" in failed.error["message"]
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "torch" not in maps
    until(lambda: not desk.folders.path(job.id).exists(), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_SECONDS) == 0


def test_a_killed_worker_takes_its_jobs_process_along_and_the_next_goes_on_at_once(desk: JobDesk, start: Start) -> None:
    job = desk.make(base_fingerprint="f" * 64)
    process = start()
    until(lambda: desk.job(job).status == "running", process)
    until(lambda: bool(psutil.Process(process.pid).children()), process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=LONG_SECONDS)
    assert not alive
    starts = desk.job(job).starts
    assert starts == 1
    process = start()
    until(lambda: desk.job(job).is_over or desk.job(job).starts == 2, process)
