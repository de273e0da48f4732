"""Who looks after jobs, with processes that do what a test says instead of training."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.training.job import Job
from server import training_worker
from server.storage.database import Database
from server.training_worker import CANCEL_SECONDS, MOST_STARTS, PAUSE_SECONDS, RENEW_SECONDS, SWEEP_SECONDS, Worker
from tests.server.job_desk import JobDesk

WAITS = "import sys; sys.stdin.read()"  # until it is killed


class House:
    """A desk, and workers over it whose processes run a script; time passes when a test says so."""

    def __init__(self, desk: JobDesk) -> None:
        self.desk = desk
        self.now = 1000.0
        self.script = WAITS
        self.processes: list[subprocess.Popen[bytes]] = []
        self.holders: list[str] = []

    def make(self, **fields: Any) -> Job:
        return self.desk.make(base_fingerprint="f" * 64, **fields)

    def start(self, job: Job, holder: str) -> subprocess.Popen[bytes]:
        self.holders.append(holder)
        self.processes.append(subprocess.Popen([sys.executable, "-c", self.script], stdin=subprocess.PIPE))
        return self.processes[-1]

    def worker(self, name: str = "w", n_jobs: int = 1, *, only_here: bool = False) -> Worker:
        return Worker(
            self.desk.jobs,
            name=name,
            folders=self.desk.folders,
            start=self.start,
            n_jobs=n_jobs,
            only_here=only_here,
            clock=lambda: self.now,
        )

    def kill(self) -> None:
        """The last process, as the system does."""
        self.processes[-1].kill()
        self.processes[-1].wait()

    def later(self, worker: Worker, seconds: float) -> None:
        self.now += seconds
        worker.step()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


@pytest.fixture
def house(tmp_path: Path, migrated: Path) -> Iterator[House]:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copyfile(migrated, data / "manyhats.db")
    with closing(Database(f"sqlite:///{data / 'manyhats.db'}")) as database:
        house = House(JobDesk(data, database))
        yield house
        house.close()


def test_one_job_at_a_time_and_the_oldest_first(house: House) -> None:
    first, second = house.make(), house.make()
    worker = house.worker()
    worker.step()
    worker.step()
    assert [house.desk.job(job).status for job in (first, second)] == ["running", "queued"]
    house.desk.jobs.succeed(first.id, house.holders[0], "clinica@1", None, 10, {})
    house.kill()
    worker.step()
    worker.step()
    assert [house.desk.job(job).status for job in (first, second)] == ["succeeded", "running"]
    assert not house.desk.folders.path(first.id).exists()
    assert house.desk.folders.path(second.id).exists()


def test_as_many_at_once_as_is_said(house: House) -> None:
    jobs = [house.make() for _ in range(3)]
    house.worker(n_jobs=2).step()
    assert [house.desk.job(job).status for job in jobs] == ["running", "running", "queued"]
    assert len(set(house.holders)) == 2


def test_one_of_several_leaves_jobs_alone_whose_data_another_has(house: House, tmp_path: Path) -> None:
    far, near = house.make(), house.make()
    elsewhere = tmp_path / "elsewhere"
    house.desk.folders.path(far.id).rename(elsewhere)
    worker = house.worker(n_jobs=2, only_here=True)
    worker.step()
    assert [house.desk.job(job).status for job in (far, near)] == ["queued", "running"]
    elsewhere.rename(house.desk.folders.path(far.id))
    worker.step()
    assert house.desk.job(far).status == "running"


def test_a_job_whose_process_is_killed_goes_on_after_a_pause(house: House) -> None:
    job = house.make()
    worker = house.worker()
    worker.step()
    house.kill()
    worker.step()
    worker.step()
    assert len(house.processes) == 1  # not at once: what killed it may be there still
    assert house.desk.messages(job)[-1].startswith("The process of this job was ended by signal SIGKILL, as the system")
    house.later(worker, training_worker.FIRST_PAUSE_SECONDS)
    assert len(house.processes) == 2
    assert house.desk.job(job).status == "running"


def test_a_job_fails_when_its_processes_die_again_and_again(house: House) -> None:
    job = house.make()
    worker = house.worker()
    for _ in range(MOST_STARTS):
        house.later(worker, training_worker.LONGEST_PAUSE_SECONDS)
        house.kill()
        worker.step()
    failed = house.desk.job(job)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "training_died"
    assert "5 times" in failed.error["message"]
    assert "memory" in failed.error["message"]
    assert len(house.processes) == MOST_STARTS


def test_a_step_that_was_kept_makes_the_deaths_before_it_count_no_more(house: House) -> None:
    job = house.make()
    worker = house.worker()
    for _ in range(MOST_STARTS + 2):
        house.later(worker, training_worker.LONGEST_PAUSE_SECONDS)
        house.desk.jobs.kept(job.id)
        house.kill()
        worker.step()
    assert house.desk.job(job).status == "running"


def test_deaths_of_whole_servers_count_too(house: House) -> None:
    job = house.make()
    for _ in range(MOST_STARTS):
        house.worker().step()  # each takes up what the one before it has left
    assert house.desk.job(job).status == "running"
    house.worker().step()
    failed = house.desk.job(job)
    assert (failed.status, len(house.processes)) == ("failed", MOST_STARTS)


def test_a_status_without_a_word_is_a_death(house: House) -> None:
    job = house.make()
    house.script = "raise SystemExit(75)"
    worker = house.worker()
    worker.step()
    house.processes[0].wait()
    worker.step()
    assert "status 75" in house.desk.messages(job)[-1]


@pytest.mark.parametrize(
    ("wish", "patience", "granted"),
    [("cancel", CANCEL_SECONDS, "cancelled"), ("pause", PAUSE_SECONDS, "paused")],
)
def test_a_process_that_does_not_hear_a_wish_is_killed(house: House, wish: str, patience: float, granted: str) -> None:
    job = house.make()
    worker = house.worker()
    worker.step()
    getattr(house.desk.jobs, wish)(job.id, None)
    house.later(worker, RENEW_SECONDS)
    house.later(worker, patience - 1)
    assert house.processes[0].poll() is None
    house.later(worker, RENEW_SECONDS)
    assert house.processes[0].poll() == -signal.SIGKILL
    worker.step()
    assert house.desk.job(job).status == granted
    assert house.desk.folders.path(job.id).exists() == (granted == "paused")


def test_a_paused_job_makes_room_for_the_next_and_comes_back(house: House) -> None:
    first, second = house.make(), house.make()
    worker = house.worker()
    worker.step()
    house.desk.jobs.pause(first.id, None)
    house.desk.jobs.put_down(first.id, house.holders[0], "paused")  # as its process does
    house.kill()
    worker.step()
    worker.step()
    assert [house.desk.job(job).status for job in (first, second)] == ["paused", "running"]
    house.desk.jobs.resume(first.id, None)
    worker.step()
    assert house.desk.job(first).status == "queued"  # until the other one is done


def test_a_lease_is_renewed_while_a_process_works(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = house.make()
    worker = house.worker()
    worker.step()
    renewed: list[str] = []
    renew = house.desk.jobs.renew
    monkeypatch.setattr(house.desk.jobs, "renew", lambda *given: (renewed.append(given[0]), renew(*given))[1])
    house.later(worker, RENEW_SECONDS - 0.1)
    assert renewed == []
    house.later(worker, 0.2)
    assert renewed == [job.id]


def test_what_another_worker_has_taken_is_left_to_it(house: House) -> None:
    job = house.make()
    worker = house.worker()
    worker.step()
    house.desk.jobs.release(house.holders[0])  # as when its lease had run out
    assert house.desk.jobs.claim("another") is not None
    house.later(worker, RENEW_SECONDS)
    assert house.processes[0].poll() is not None
    worker.step()
    assert house.desk.job(job).lease_holder == "another"


def test_another_worker_does_not_take_a_running_job(house: House) -> None:
    house.make()
    house.worker("one").step()
    house.worker("two").step()
    assert len(house.processes) == 1


def test_closing_lets_jobs_wait_for_the_next_start(house: House) -> None:
    job = house.make()
    worker = house.worker()
    worker.step()
    worker.close()
    waiting = house.desk.job(job)
    assert (waiting.status, waiting.starts) == ("queued", 0)
    assert house.processes[0].returncode == -signal.SIGTERM


def test_a_process_that_does_not_hear_sigterm_is_killed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_worker, "CLOSE_SECONDS", 0.0)
    house.script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input(); input()"
    job = house.make()
    worker = house.worker()
    worker.step()
    worker.close()
    assert house.processes[0].returncode is not None
    assert house.desk.job(job).status == "queued"


def test_a_process_that_cannot_be_started_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: Job, holder: str) -> subprocess.Popen[bytes]:
        raise OSError("Cannot allocate memory")

    job = house.make()
    start = house.start
    monkeypatch.setattr(house, "start", refuse)
    worker = house.worker()
    worker.step()
    assert house.desk.job(job).lease_holder is None
    monkeypatch.setattr(worker, "_start", start)
    house.later(worker, training_worker.FIRST_PAUSE_SECONDS)
    assert len(house.processes) == 1


def test_a_database_that_fails_loses_no_process(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    job = house.make()
    worker = house.worker()
    worker.step()
    house.kill()
    with monkeypatch.context() as broken:
        broken.setattr(house.desk.jobs, "say", _fail)
        with pytest.raises(RuntimeError):
            worker.step()
    worker.step()
    assert "SIGKILL" in house.desk.messages(job)[-1]


def test_folders_that_no_job_needs_are_swept_every_hour(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    over, waiting = house.make(), house.make()
    house.desk.jobs.cancel(over.id, None)
    needed: list[set[str]] = []
    monkeypatch.setattr(house.desk.folders, "sweep", needed.append)
    worker = house.worker()
    worker.step()
    house.later(worker, SWEEP_SECONDS - 1)
    assert needed == [{waiting.id}]
    house.later(worker, 1)
    assert len(needed) == 2


def _fail(*_: object) -> None:
    raise RuntimeError("the database is away")


def test_this_file_needs_no_torch() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import server.training_process, sys; print(sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    ).stdout
    assert "'adapters.training.jobs'" in told
    for large in ("torch", "transformers", "numpy", "fastapi", "trl", "datasets"):
        assert f"'{large}'" not in told


def test_every_step_is_harmless_without_jobs(house: House) -> None:
    worker = house.worker()
    worker.step()
    assert not worker.is_busy
    worker.close()
