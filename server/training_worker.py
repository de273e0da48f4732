"""Who works on fine-tuning jobs: claims them, has a process for each, and answers for it with a lease.

The process (server/training_job.py) says itself how its job ended. Where it dies without a word, the job is given back
and goes on from its last checkpoint; a job whose processes die again and again before anything is kept fails.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from adapters.training.errors import JobState
from adapters.training.folders import JobFolders
from adapters.training.job import Job
from adapters.training.jobs import Jobs, Wanted
from server.supervisor import describe

logger = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
MOST_STARTS = 5  # without a step that was kept
CANCEL_SECONDS = 30.0  # for the step that the process is at; after that it is killed
PAUSE_SECONDS = 300.0  # the same for a pause, where what was learnt since the last checkpoint would be lost
CLOSE_SECONDS = 5.0  # from being told to end to being killed: the next start goes on from the last checkpoint
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0  # before a job's process is started again
SWEEP_SECONDS = 3600.0

Start = Callable[[Job, str], subprocess.Popen[bytes]]


@dataclass(slots=True)
class _Running:
    """A job and its process."""

    job_id: str
    holder: str
    process: subprocess.Popen[bytes]
    renewed_at: float
    wanted: Wanted = "go"
    wanted_since: float = 0.0


class Worker:
    """Not to be called from several threads: a process ends with the thread that started it."""

    def __init__(
        self,
        jobs: Jobs,
        *,
        name: str,
        folders: JobFolders,
        start: Start,
        n_jobs: int = 1,
        only_here: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """name: nobody else's who lives. start: begins the process of a job under a holder.

        only_here: leave jobs alone whose data are not in `folders`: those of another data directory, over one database.
        """
        self._jobs = jobs
        self._holders = [f"{name}-{number}" for number in range(1, n_jobs + 1)]
        self._folders = folders
        self._start = start
        self._only_here = only_here
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._paused_until: dict[str, float] = {}
        self._sweep_at = 0.0
        self._has_released = False

    @property
    def is_busy(self) -> bool:
        """Whether a process runs."""
        return bool(self._running)

    def step(self) -> None:
        """Look after what runs and begin what waits; raises what the database raises, and may be called again."""
        if not self._has_released:  # what this name held, it held before it died
            for holder in self._holders:
                self._jobs.release(holder)
            self._has_released = True
        for running in list(self._running.values()):
            self._look_after(running)
        for holder in self._holders:
            if holder not in self._running and self._clock() >= self._paused_until.get(holder, 0.0):
                self._claim(holder)
        if self._clock() >= self._sweep_at:
            self._sweep_at = self._clock() + SWEEP_SECONDS
            self._folders.sweep(self._jobs.unfinished())

    def close(self) -> None:
        """End every process; their jobs wait for the next worker and go on from their last checkpoints."""
        for running in self._running.values():
            running.process.terminate()
        ends_at = time.monotonic() + CLOSE_SECONDS
        for running in list(self._running.values()):
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(max(0.0, ends_at - time.monotonic()))
            _kill(running.process)
            with suppress(JobState):  # it has put the job down itself
                self._jobs.put_down(running.job_id, running.holder, "queued")
            del self._running[running.holder]

    def _claim(self, holder: str) -> None:
        job = self._jobs.claim(holder, among=self._folders.ready() if self._only_here else None)
        if job is None:
            return
        if job.starts > MOST_STARTS:
            self._jobs.fail(job.id, holder, "training_died", _gave_up("the server that it ran in ended each time"))
            self._folders.remove(job.id)
            return
        try:
            process = self._start(job, holder)
        except OSError as error:
            logger.error("no process could be started for job %s: %s", job.id, error)
            self._put_back(holder, job)
            return
        logger.info("started job %s: process %d", job.id, process.pid)
        self._running[holder] = _Running(job.id, holder, process, renewed_at=self._clock())

    def _look_after(self, running: _Running) -> None:
        if running.process.poll() is not None:
            self._ended(running)
        elif self._clock() - running.renewed_at >= RENEW_SECONDS:
            self._renew(running)

    def _renew(self, running: _Running) -> None:
        try:
            wanted = self._jobs.renew(running.job_id, running.holder)
        except JobState:  # it has just ended, or another has taken it because this process did not run for a while
            if self._is_ours(running):
                raise
            if self._jobs.get(running.job_id, None).status == "running":
                logger.warning("job %s is no longer this worker's", running.job_id)
                _kill(running.process)
            return
        running.renewed_at = self._clock()
        if wanted != running.wanted:
            running.wanted, running.wanted_since = wanted, self._clock()
        patience = {"cancel": CANCEL_SECONDS, "pause": PAUSE_SECONDS}.get(wanted)
        if patience is not None and self._clock() - running.wanted_since >= patience:
            logger.warning("job %s did not %s in %.0f s; killing its process", running.job_id, wanted, patience)
            _kill(running.process)

    def _ended(self, running: _Running) -> None:
        if self._is_ours(running):  # it did not say how it ended
            self._died(running, describe(running.process.returncode))
        job = self._jobs.get(running.job_id, None)
        logger.info("the process of job %s has ended; the job is %s", job.id, job.status)
        if job.is_over:
            self._folders.remove(job.id)
        del self._running[running.holder]

    def _died(self, running: _Running, how: str) -> None:
        job = self._jobs.get(running.job_id, None)
        logger.warning("the process of job %s ended with %s", job.id, how)
        if job.wanted is not None:
            self._jobs.put_down(job.id, running.holder, "queued")  # what is wished is granted
        elif job.starts >= MOST_STARTS:
            self._jobs.fail(job.id, running.holder, "training_died", _gave_up(f"the last one by {_in_words(how)}"))
        else:
            going_on = f"it goes on after step {job.step} or the last one before it that was kept"
            self._jobs.say(job.id, "warn", f"The process of this job was ended by {_in_words(how)}; {going_on}")
            self._put_back(running.holder, job)

    def _put_back(self, holder: str, job: Job) -> None:
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** max(0, job.starts - 1))
        self._paused_until[holder] = self._clock() + pause
        self._jobs.release(holder)

    def _is_ours(self, running: _Running) -> bool:
        job = self._jobs.get(running.job_id, None)
        return job.status == "running" and job.lease_holder == running.holder


def _gave_up(last: str) -> str:
    return f"the process of this job ended {MOST_STARTS} times before a further step was kept, {last}"


def _in_words(how: str) -> str:
    if how == "signal SIGKILL":
        return (
            f"{how}, as the system does when memory is short: a smaller batch_size, shorter examples or "
            "quantization 'nf4' take less"
        )
    return how


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
