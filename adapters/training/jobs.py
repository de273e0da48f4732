"""Fine-tuning jobs: made and steered by clients, worked on by whoever holds their lease.

    queued ── claim ──> running ── succeed ──> succeeded        fail ──> failed
      ^ └ pause ┐          │ put_down
      └─ resume ┴─ paused <┴─> cancelled

A wish of a client (pause, cancel) waits in `wanted` while a process works on the job: it looks there after each step,
and puts the job down. Where nobody holds the lease the wish is granted at once. Each method is one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import func, select

from adapters.training import ledger, tables
from adapters.training.errors import JobState
from adapters.training.job import OVER, Checkpoint, Event, Job
from adapters.training.leases import FREE, GRANTED, Leases, Wanted
from adapters.training.ledger import Page, new_checkpoint_id, new_event_id, new_job_id
from adapters.training.method import Kind

__all__ = ["Jobs", "Page", "Wanted", "new_checkpoint_id", "new_event_id", "new_job_id"]

_columns = tables.jobs.c


class Jobs(Leases):
    """The tables of jobs. An owner sees its own, None sees all; any thread may call it, and several processes."""

    def create(self, job: Job, *events: Event) -> Job:
        """Keep a new job, whose own copy of the files is there already, with its first events."""
        with self._database.write() as connection:
            ledger.put_job(connection, job)
            for event in events or (self._event("info", "Created fine-tuning job"),):
                ledger.put_event(connection, job.id, event)
            self._on_write(connection)
            return ledger.the_job(connection, job.id, None)

    def get(self, job_id: str, owner: str | None) -> Job:
        """Raises JobNotFound."""
        with self._database.read() as connection:
            return ledger.the_job(connection, job_id, owner)

    def list(
        self,
        owner: str | None,
        *,
        limit: int = 20,
        after: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Page[Job]:
        """Newest first. metadata: only jobs that have all of these pairs; an empty one, only jobs that have none.

        Raises JobInvalid for a cursor that is not in the list.
        """
        with self._database.read() as connection:
            return ledger.list_jobs(connection, owner, limit=limit, after=after, metadata=metadata)

    def events(self, job_id: str, owner: str | None, limit: int = 20, after: str | None = None) -> Page[Event]:
        """Newest first. Raises JobNotFound, and JobInvalid as above."""
        with self._database.read() as connection:
            job = ledger.the_job(connection, job_id, owner)
            return ledger.list_events(connection, job.id, limit=limit, after=after)

    def checkpoints(
        self, job_id: str, owner: str | None, limit: int = 10, after: str | None = None
    ) -> Page[Checkpoint]:
        """Newest first. Raises as above."""
        with self._database.read() as connection:
            job = ledger.the_job(connection, job_id, owner)
            return ledger.list_checkpoints(connection, job, limit=limit, after=after)

    def cancel(self, job_id: str, owner: str | None) -> Job:
        """End the job: at once, or after the step that its process is at. A cancelled one is returned as it is.

        Raises JobNotFound, and JobState for a job that has succeeded or failed.
        """
        return self._wish(job_id, owner, "cancel")

    def pause(self, job_id: str, owner: str | None) -> Job:
        """Stop it, with what it has learnt kept: at once, or after the step it is at. A paused one is as it was.

        Raises JobNotFound, and JobState for a job that is over or being cancelled.
        """
        return self._wish(job_id, owner, "pause")

    def resume(self, job_id: str, owner: str | None) -> Job:
        """Let it wait for its turn again, or go on; one that does already is returned as it is. Raises as `pause`."""
        with self._database.write() as connection:
            job = ledger.the_job(connection, job_id, owner, lock=True)
            _check_not_over(job, "resumed")
            if job.wanted == "cancel":
                raise JobState(f"job {job.id!r} is being cancelled and cannot be resumed")
            if job.status == "paused":
                ledger.set_job(connection, job.id, status="queued", starts=0, **FREE)
                self._tell(connection, job, "The job was resumed and waits for its turn")
            elif job.wanted == "pause":
                ledger.set_job(connection, job.id, wanted=None)
                self._tell(connection, job, "The job goes on: it was resumed before it had stopped")
            return ledger.the_job(connection, job.id, owner)

    def counts(self) -> dict[str, int]:
        """How many jobs there are of each status that there is."""
        query = select(_columns.status, func.count().label("n")).group_by(_columns.status)
        with self._database.read() as connection:
            return {row.status: row.n for row in connection.execute(query)}

    def unfinished(self) -> set[str]:
        """The ids of the jobs that are not over: their folders are needed."""
        with self._database.read() as connection:
            return set(connection.execute(select(_columns.id).where(_columns.status.not_in(OVER))).scalars())

    def tokens_per_second(self, base_fingerprint: str, kind: Kind) -> float | None:
        """How fast the last job of that kind on this base read its data, repeats counted; None before there was one."""
        query = select(_columns.method, _columns.training, _columns.facts).where(
            _columns.status == "succeeded", _columns.base_fingerprint == base_fingerprint
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_columns.finished_at.desc()).limit(32)).all()
        for method, training, facts in rows:
            n_epochs, seconds = facts.get("hyperparameters", {}).get("n_epochs"), facts.get("seconds")
            if method.get("type", "supervised") == kind and n_epochs and seconds:
                return float(training["n_tokens"] * n_epochs / seconds)
        return None

    # Inside one transaction

    def _wish(self, job_id: str, owner: str | None, wish: Literal["pause", "cancel"]) -> Job:
        granted = GRANTED[wish]
        with self._database.write() as connection:
            job = ledger.the_job(connection, job_id, owner, lock=True)
            is_held = job.status == "running" and ledger.is_held(connection, job.id, self._clock())
            if job.status == granted or (job.wanted == wish and is_held):
                return job
            _check_not_over(job, granted)
            if wish == "pause" and job.wanted == "cancel":
                raise JobState(f"job {job.id!r} is being cancelled and cannot be {granted}")
            if is_held:
                ledger.set_job(connection, job.id, wanted=wish)
                self._tell(connection, job, f"The job will be {granted} after the step it is at")
            else:
                self._put_down(connection, job, granted)
            return ledger.the_job(connection, job.id, owner)


def _check_not_over(job: Job, granted: str) -> None:
    if job.is_over:
        raise JobState(f"job {job.id!r} has ended as {job.status!r} and cannot be {granted}")
