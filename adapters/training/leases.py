"""A job's work, as whoever does it sees it: claimed for a while, renewed, and ended once or put down.

A claim is a lease. Whoever has lost it (it ran out and another took it, or a client ended the job meanwhile) is told so
by JobState, and changes nothing any more. Each method is one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from sqlalchemy import Connection, select

from adapters.ports import Store
from adapters.training import ledger, tables
from adapters.training.errors import JobState
from adapters.training.job import OVER, Checkpoint, Event, Job, Level, Status
from adapters.training.ledger import new_event_id

LEASE_SECONDS = 60.0

Wanted = Literal["go", "pause", "cancel"]

GRANTED: dict[str, Status] = {"pause": "paused", "cancel": "cancelled"}
FREE: dict[str, Any] = {"lease_holder": None, "lease_until": None, "wanted": None, "estimated_finish": None}

_columns = tables.jobs.c
_TOLD = {
    "paused": "The job is paused; resuming it goes on after the last step that was kept",
    "cancelled": "The job was cancelled",
    "queued": "The job waits for its turn",
}


class Leases:
    """The part of `Jobs` for those who do the work."""

    def __init__(
        self,
        database: Store,
        *,
        clock: Callable[[], float] = time.time,
        on_write: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """on_write: called inside every transaction that changed what is to be done; progress is no reason."""
        self._database = database
        self._clock = clock
        self._on_write = on_write

    def claim(
        self, holder: str, *, among: Collection[str] | None = None, lease_seconds: float = LEASE_SECONDS
    ) -> Job | None:
        """The oldest job that waits or whose process has died, running and this holder's; None where there is none.

        among: ids of jobs; no others are claimed. `starts` counts this start. Wishes that a dead process could not
        grant any more are granted on the way.
        """
        now = self._clock()
        with self._database.read() as connection:  # looking is no reason to wait for writers
            if connection.execute(select(_columns.id).where(ledger.free(now, among)).limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            while (job := ledger.oldest_free(connection, now, among)) is not None:
                if job.wanted is not None:
                    self._put_down(connection, job, GRANTED[job.wanted])
                    continue
                taken = {"lease_holder": holder, "lease_until": now + lease_seconds, "starts": job.starts + 1}
                ledger.set_job(connection, job.id, status="running", **taken)
                self._on_write(connection)
                return ledger.the_job(connection, job.id, None)
        return None

    def release(self, holder: str) -> int:
        """Give back what this holder has, because it ends or has died; returns how many jobs that were."""
        with self._database.read() as connection:
            held = select(_columns.id).where(_columns.lease_holder == holder, _columns.status == "running")
            ids = list(connection.execute(held).scalars())
        if not ids:
            return 0
        with self._database.write() as connection:
            freed = tables.jobs.update().where(_columns.id.in_(ids), _columns.lease_holder == holder)
            count = connection.execute(freed.values(lease_holder=None, lease_until=None)).rowcount
            self._on_write(connection)
            return count

    def renew(self, job_id: str, holder: str, lease_seconds: float = LEASE_SECONDS) -> Wanted:
        """Keep the lease, and hear what is wished. Raises JobState when it is lost, JobNotFound."""
        with self._database.write() as connection:
            job = self._held(connection, job_id, holder)
            ledger.set_job(connection, job_id, lease_until=self._clock() + lease_seconds)
            return job.wanted or "go"

    def began(self, job_id: str, holder: str, n_steps: int, facts: Mapping[str, Any]) -> None:
        """The settled plan is known and its first step comes, or the next after a stop; an event tells of it."""
        with self._database.write() as connection:
            job = self._held(connection, job_id, holder)
            started = job.started_at if job.started_at is not None else self._clock()
            merged = {**job.facts, **facts}
            ledger.set_job(connection, job_id, n_steps=n_steps, started_at=started, facts=merged)
            told = "Training started" if job.started_at is None else f"Training goes on after step {job.step}"
            self._tell(connection, job, f"{told}, {n_steps} steps in all", data={"n_steps": n_steps})

    def kept(self, job_id: str) -> None:
        """A step is on the disk for good: the starts before it were not in vain."""
        with self._database.read() as connection:
            if ledger.the_job(connection, job_id, None).starts == 0:
                return
        with self._database.write() as connection:
            ledger.set_job(connection, job_id, starts=0)

    def progress(
        self,
        job_id: str,
        holder: str,
        step: int,
        n_tokens: int,
        estimated_finish: float | None,
        event: Event | None = None,
    ) -> Wanted:
        """Tell of a step, and hear what is wished. n_tokens: trained so far. Raises JobState when the lease is lost."""
        with self._database.write() as connection:
            job = self._held(connection, job_id, holder)
            done = {"step": step, "trained_tokens": n_tokens, "estimated_finish": estimated_finish}
            ledger.set_job(connection, job_id, **done)
            if event is not None:
                ledger.put_event(connection, job_id, event)
            return job.wanted or "go"

    def say(self, job_id: str, level: Level, message: str, data: Mapping[str, Any] | None = None) -> None:
        """One more event."""
        with self._database.write() as connection:
            ledger.put_event(connection, job_id, self._event(level, message, data))

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """One more checkpoint, in place of an earlier one of the same step."""
        with self._database.write() as connection:
            ledger.put_checkpoint(connection, checkpoint)

    def succeed(
        self,
        job_id: str,
        holder: str,
        version: str,
        result_file: str | None,
        trained_tokens: int,
        facts: Mapping[str, Any],
    ) -> None:
        """End it well; a cancellation that comes while the version is published is too late. Raises as `renew`."""
        with self._database.write() as connection:
            job = self._held(connection, job_id, holder)
            ended = {
                "status": "succeeded",
                "finished_at": self._clock(),
                "version": version,
                "result_file": result_file,
                "trained_tokens": trained_tokens,
                "facts": {**job.facts, **facts},
            }
            ledger.set_job(connection, job_id, **{**FREE, **ended})
            if job.wanted is not None:
                self._tell(connection, job, f"The wish to {job.wanted} came when the job was done", level="warn")
            self._tell(connection, job, "The job has successfully completed", data={"version": version})

    def fail(self, job_id: str, holder: str, code: str, message: str, param: str | None = None) -> None:
        """End it with a reason for people; a job that was to be cancelled is cancelled. Raises as `renew`."""
        with self._database.write() as connection:
            job = self._held(connection, job_id, holder)
            if job.wanted == "cancel":
                self._put_down(connection, job, "cancelled")
                return
            error = {"code": code, "message": message, "param": param}
            ledger.set_job(
                connection, job_id, **{**FREE, "status": "failed", "finished_at": self._clock(), "error": error}
            )
            self._tell(connection, job, f"The job failed: {message}", level="error", data={"code": code})

    def put_down(self, job_id: str, holder: str, status: Literal["paused", "cancelled", "queued"]) -> Job:
        """Let go of it, not ended by itself; returns it as it then is. Raises as `renew`.

        What is wished by now counts: a job that was resumed while it stopped is queued, one cancelled meanwhile is
        cancelled. `queued` is for whoever ends in good order, and takes its start back.
        """
        with self._database.write() as connection:
            job = self._held(connection, job_id, holder)
            settled: Status = status
            if status != "cancelled":
                settled = GRANTED[job.wanted] if job.wanted is not None else "queued"
            self._put_down(connection, job, settled)
            return ledger.the_job(connection, job_id, None)

    # Inside one transaction

    def _put_down(self, connection: Connection, job: Job, status: Status) -> None:
        ended = {"finished_at": self._clock()} if status in OVER else {}
        # the start that ends in good order was no failure
        ledger.set_job(connection, job.id, **{**FREE, "status": status, "starts": max(0, job.starts - 1), **ended})
        self._tell(connection, job, _TOLD[status])

    def _held(self, connection: Connection, job_id: str, holder: str) -> Job:
        job = ledger.the_job(connection, job_id, None, lock=True)
        if job.status != "running" or job.lease_holder != holder:
            raise JobState(f"job {job_id!r} is not worked on by {holder!r} any more; its status is {job.status!r}")
        return job

    def _tell(
        self,
        connection: Connection,
        job: Job,
        message: str,
        *,
        level: Level = "info",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        ledger.put_event(connection, job.id, self._event(level, message, data))
        self._on_write(connection)

    def _event(self, level: Level, message: str, data: Mapping[str, Any] | None = None) -> Event:
        return Event(id=new_event_id(), created_at=self._clock(), level=level, message=message, data=data or {})
