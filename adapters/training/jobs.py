"""Fine-tuning jobs: made and steered by clients, worked on by whoever holds their lease.

    queued ── claim ──> running ── succeed ──> succeeded        fail ──> failed
      ^ └ pause ┐          │ put_down
      └─ resume ┴─ paused <┴─> cancelled

A wish of a client (pause, cancel) waits in `wanted` while a process works on the job: it looks there after each step,
and puts the job down. Where nobody holds the lease the wish is granted at once. Each method is one transaction, and
whoever has lost the lease is told so by JobState and changes nothing any more.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from sqlalchemy import Connection, func, select

from adapters.ports import Store
from adapters.training import ledger, tables
from adapters.training.errors import JobState
from adapters.training.job import OVER, Checkpoint, Event, Job, Level, Status
from adapters.training.ledger import Page, new_checkpoint_id, new_event_id, new_job_id

__all__ = ["Jobs", "Page", "Wanted", "new_checkpoint_id", "new_event_id", "new_job_id"]

LEASE_SECONDS = 60.0

Wanted = Literal["go", "pause", "cancel"]

_columns = tables.jobs.c
_FREE: dict[str, Any] = {"lease_holder": None, "lease_until": None, "wanted": None, "estimated_finish": None}
_GRANTED: dict[str, Status] = {"pause": "paused", "cancel": "cancelled"}
_TOLD = {
    "paused": "The job is paused; resuming it goes on after the last step that was kept",
    "cancelled": "The job was cancelled",
    "queued": "The job waits for its turn",
}


class Jobs:
    """The tables of jobs. An owner sees its own, None sees all; any thread may call it, and several processes."""

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

    # For clients

    def create(self, job: Job, event: Event | None = None) -> Job:
        """Keep a new job, whose own copy of the files is there already; the event is its first."""
        first = event or self._event("info", "Created fine-tuning job")
        with self._database.write() as connection:
            ledger.put_job(connection, job)
            ledger.put_event(connection, job.id, first)
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
                ledger.set_job(connection, job.id, status="queued", starts=0, **_FREE)
                self._tell(connection, job, "The job was resumed and waits for its turn")
            elif job.wanted == "pause":
                ledger.set_job(connection, job.id, wanted=None)
                self._tell(connection, job, "The job goes on: it was resumed before it had stopped")
            return ledger.the_job(connection, job.id, owner)

    # For those who do the work

    def claim(self, holder: str, *, lease_seconds: float = LEASE_SECONDS) -> Job | None:
        """The oldest job that waits or whose process has died, running and this holder's; None where there is none.

        `starts` counts this start. Wishes that a dead process could not grant any more are granted on the way.
        """
        now = self._clock()
        with self._database.read() as connection:  # looking is no reason to wait for writers
            if connection.execute(select(_columns.id).where(ledger.free(now)).limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            while (job := ledger.oldest_free(connection, now)) is not None:
                if job.wanted is not None:
                    self._put_down(connection, job, _GRANTED[job.wanted])
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
            ids = builtins.list(connection.execute(held).scalars())
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
            ledger.set_job(connection, job_id, **{**_FREE, **ended})
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
                connection, job_id, **{**_FREE, "status": "failed", "finished_at": self._clock(), "error": error}
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
                settled = _GRANTED[job.wanted] if job.wanted is not None else "queued"
            self._put_down(connection, job, settled)
            return ledger.the_job(connection, job_id, None)

    # For the whole

    def counts(self) -> dict[str, int]:
        """How many jobs there are of each status that there is."""
        query = select(_columns.status, func.count().label("n")).group_by(_columns.status)
        with self._database.read() as connection:
            return {row.status: row.n for row in connection.execute(query)}

    def unfinished(self) -> set[str]:
        """The ids of the jobs that are not over: their folders are needed."""
        with self._database.read() as connection:
            return set(connection.execute(select(_columns.id).where(_columns.status.not_in(OVER))).scalars())

    def tokens_per_second(self, base_fingerprint: str) -> float | None:
        """How fast the last job on this base trained; None before there was one."""
        query = select(_columns.trained_tokens, _columns.facts).where(
            _columns.status == "succeeded", _columns.base_fingerprint == base_fingerprint
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_columns.finished_at.desc()).limit(8)).all()
        for n_tokens, facts in rows:
            seconds = facts.get("seconds")
            if isinstance(seconds, int | float) and seconds > 0 and n_tokens:
                return float(n_tokens) / seconds
        return None

    # Inside one transaction

    def _wish(self, job_id: str, owner: str | None, wish: Literal["pause", "cancel"]) -> Job:
        granted = _GRANTED[wish]
        with self._database.write() as connection:
            job = ledger.the_job(connection, job_id, owner, lock=True)
            if job.status == granted or job.wanted == wish:
                return job
            _check_not_over(job, granted)
            if job.wanted == "cancel":
                raise JobState(f"job {job.id!r} is being cancelled and cannot be {granted}")
            if job.status == "running" and ledger.is_held(connection, job.id, self._clock()):
                ledger.set_job(connection, job.id, wanted=wish)
                self._tell(connection, job, f"The job will be {granted} after the step it is at")
            else:
                self._put_down(connection, job, granted)
            return ledger.the_job(connection, job.id, owner)

    def _put_down(self, connection: Connection, job: Job, status: Status) -> None:
        ended = {"finished_at": self._clock()} if status in OVER else {}
        # the start that ends in good order was no failure
        ledger.set_job(connection, job.id, **{**_FREE, "status": status, "starts": max(0, job.starts - 1), **ended})
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


def _check_not_over(job: Job, granted: str) -> None:
    if job.is_over:
        raise JobState(f"job {job.id!r} has ended as {job.status!r} and cannot be {granted}")
