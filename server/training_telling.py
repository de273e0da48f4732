"""What a job's process says of each step, and what it hears: a client's wish, or that it has to end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from adapters.training.errors import JobState
from adapters.training.job import Event, Job
from adapters.training.jobs import Jobs, new_event_id
from adapters.training.train import Asked, Step
from server.finite_numbers import finite
from server.storage.errors import StorageError

logger = logging.getLogger(__name__)

TELL_SECONDS = 0.5  # between two steps that are written down, but for those that measured something


class Telling:
    """Of one job in one process. Steps come in their order."""

    def __init__(
        self,
        jobs: Jobs,
        job: Job,
        holder: str,
        stop: threading.Event,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._job = job
        self._holder = holder
        self._stop = stop
        self._clock = clock
        self._first: tuple[int, float] | None = None  # the first step of this process, and when
        self._told_at = 0.0

    def told(self, step: Step) -> Asked:
        """Write down what is worth it; raises JobState when the job is no longer this process's.

        A database that does not answer is no reason to stop: the next step is told again.
        """
        try:
            wanted = self._tell(step)
        except StorageError as error:
            logger.warning("step %d of job %s could not be told: %s", step.number, self._job.id, error)
            wanted = "go"
        return "pause" if wanted == "go" and self._stop.is_set() else wanted

    def _tell(self, step: Step) -> Asked:
        now = self._clock()
        if self._first is None:
            self._jobs.began(self._job.id, self._holder, step.n_steps, {})
            self._first = step.number, now
        if step.is_kept:
            self._jobs.kept(self._job.id)
        is_last = step.number == step.n_steps
        if now - self._told_at < TELL_SECONDS and step.valid_loss is None and not (is_last or step.is_kept):
            return self._wanted()
        wanted = self._jobs.progress(
            self._job.id, self._holder, step.number, step.n_tokens, self._finish(step, now), _event(step, now)
        )
        self._told_at = now
        return wanted

    def _wanted(self) -> Asked:
        job = self._jobs.get(self._job.id, None)
        if job.status != "running" or job.lease_holder != self._holder:
            raise JobState(f"job {job.id!r} is not worked on by {self._holder!r} any more")
        return job.wanted or "go"

    def _finish(self, step: Step, now: float) -> float | None:
        """When the steps that are left will be done, at the pace of this process; None at its first."""
        assert self._first is not None
        number, since = self._first
        if step.number == number:
            return None
        return now + (step.n_steps - step.number) * (now - since) / (step.number - number)


def _event(step: Step, now: float) -> Event:
    """https://platform.openai.com/docs/api-reference/fine-tuning/event-object, of the type `metrics`."""
    losses = {"training loss": step.train_loss, "validation loss": step.valid_loss}
    told = ", ".join(f"{name}={loss:.4f}" for name, loss in losses.items() if loss is not None)
    data: dict[str, Any] = {
        "step": step.number,
        "total_steps": step.n_steps,
        "epoch": step.epoch,
        "train_loss": step.train_loss,
        "train_mean_token_accuracy": step.train_mean_token_accuracy,
        "valid_loss": step.valid_loss,
        "valid_mean_token_accuracy": step.valid_mean_token_accuracy,
        "learning_rate": step.learning_rate,
        "n_tokens": step.n_tokens,
    }
    return Event(
        id=new_event_id(),
        created_at=now,
        level="info",
        message=f"Step {step.number}/{step.n_steps}: {told}",
        type="metrics",
        data={name: value for name, value in finite(data).items() if value is not None},
    )
