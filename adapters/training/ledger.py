"""The rows of jobs, events and checkpoints, read and changed inside a transaction that somebody else holds."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, delete, insert, or_, select, tuple_, update

from adapters.names import shown
from adapters.training import tables
from adapters.training.errors import JobInvalid, JobNotFound
from adapters.training.job import Checkpoint, Event, Job, JobFile
from adapters.training.method import Method

T = TypeVar("T")

_jobs = tables.jobs.c
_KEPT = [column for column in tables.jobs.c if column.name != "lease_until"]  # what a Job says


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Part of a list, newest first."""

    items: tuple[T, ...]
    has_more: bool


def new_job_id() -> str:
    """`ftjob-…`"""
    return f"ftjob-{secrets.token_hex(12)}"


def new_event_id() -> str:
    """`ftevent-…`"""
    return f"ftevent-{secrets.token_hex(12)}"


def new_checkpoint_id() -> str:
    """`ftckpt_…`"""
    return f"ftckpt_{secrets.token_hex(12)}"


def put_job(connection: Connection, job: Job) -> None:
    """A new row."""
    row = {column.name: getattr(job, column.name) for column in _KEPT}
    # only what was given: a method that names another's hyperparameter, even by its default, is refused when read
    row["method"] = job.method.model_dump(mode="json", exclude_unset=True)
    row |= {"metadata": dict(job.metadata), "facts": dict(job.facts), "training": job.training.as_row()}
    row["validation"] = job.validation.as_row() if job.validation else None
    connection.execute(insert(tables.jobs).values(**row))


def the_job(connection: Connection, job_id: str, owner: str | None, *, lock: bool = False) -> Job:
    """Raises JobNotFound, also for another owner's. lock: until the transaction ends nobody else changes it."""
    query = select(*_KEPT).where(_jobs.id == job_id, *_seen(owner))
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise JobNotFound(f"no fine-tuning job has the id {shown(job_id)}")
    return _job(row)


def is_held(connection: Connection, job_id: str, now: float) -> bool:
    """Whether somebody works on the job under a lease that has not run out."""
    return connection.execute(select(_jobs.id).where(_jobs.id == job_id, _jobs.lease_until > now)).first() is not None


def free(now: float, among: Collection[str] | None = None) -> ColumnElement[bool]:
    """Jobs that somebody may begin, or go on with: queued, or running without a lease that holds. among: their ids."""
    lapsed = or_(_jobs.lease_until.is_(None), _jobs.lease_until <= now)
    found = or_(_jobs.status == "queued", and_(_jobs.status == "running", lapsed))
    return found if among is None else and_(found, _jobs.id.in_(among))


def oldest_free(connection: Connection, now: float, among: Collection[str] | None = None) -> Job | None:
    """The first of them, or of those with one of these ids, locked; one that another transaction has locked is passed
    over.
    """
    query = select(*_KEPT).where(free(now, among)).order_by(_jobs.created_at, _jobs.id).limit(1)
    row = connection.execute(query.with_for_update(skip_locked=True)).mappings().first()
    return None if row is None else _job(row)


def set_job(connection: Connection, job_id: str, **values: Any) -> None:
    """Change some of a row's fields."""
    connection.execute(update(tables.jobs).where(_jobs.id == job_id).values(**values))


def put_event(connection: Connection, job_id: str, event: Event) -> None:
    """One more event of the job."""
    row = {
        "id": event.id,
        "job": job_id,
        "created_at": event.created_at,
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": dict(event.data),
    }
    connection.execute(insert(tables.events).values(**row))


def put_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """In place of one of the same step: a process that was killed may tell of it again."""
    there = tables.checkpoints.c
    connection.execute(delete(tables.checkpoints).where(there.job == checkpoint.job_id, there.step == checkpoint.step))
    row = {
        "id": checkpoint.id,
        "job": checkpoint.job_id,
        "created_at": checkpoint.created_at,
        "step": checkpoint.step,
        "version": checkpoint.version,
        "metrics": dict(checkpoint.metrics),
    }
    connection.execute(insert(tables.checkpoints).values(**row))


def list_jobs(
    connection: Connection, owner: str | None, *, limit: int, after: str | None, metadata: Mapping[str, str] | None
) -> Page[Job]:
    """Raises JobInvalid for a cursor that is nowhere in the list."""
    key = (_jobs.created_at, _jobs.id)
    keys: Select[Any] = select(_jobs.id, _jobs.metadata).where(*_seen(owner))
    if after is not None:
        place = connection.execute(select(*key).where(_jobs.id == after, *_seen(owner))).first()
        keys = keys.where(tuple_(*key) < _known(place, after))
    ids: list[str] = []
    # compared here and not in SQL, whose paths into JSON do not take every key that a client may have chosen
    for job_id, pairs in connection.execute(keys.order_by(*(column.desc() for column in key))):
        if metadata is None or _has(pairs, metadata):
            ids.append(job_id)
        if len(ids) > limit:
            break
    rows = connection.execute(select(*_KEPT).where(_jobs.id.in_(ids[:limit]))).mappings().all()
    by_id = {row["id"]: _job(row) for row in rows}
    return Page(items=tuple(by_id[job_id] for job_id in ids[:limit]), has_more=len(ids) > limit)


def list_events(connection: Connection, job_id: str, *, limit: int, after: str | None) -> Page[Event]:
    """Raises as above."""
    columns = tables.events.c
    query = select(tables.events).where(columns.job == job_id)
    rows, has_more = _newest(connection, query, columns, job_id, limit, after)
    names = ("id", "created_at", "level", "message", "type", "data")
    return Page(items=tuple(Event(**{name: row[name] for name in names}) for row in rows), has_more=has_more)


def list_checkpoints(connection: Connection, job: Job, *, limit: int, after: str | None) -> Page[Checkpoint]:
    """Raises as above."""
    columns = tables.checkpoints.c
    query = select(tables.checkpoints).where(columns.job == job.id)
    rows, has_more = _newest(connection, query, columns, job.id, limit, after)
    names = ("id", "created_at", "step", "version", "metrics")
    found = (Checkpoint(job_id=job.id, base_name=job.base_name, **{name: row[name] for name in names}) for row in rows)
    return Page(items=tuple(found), has_more=has_more)


def _newest(
    connection: Connection, query: Select[Any], columns: Any, job_id: str, limit: int, after: str | None
) -> tuple[list[RowMapping], bool]:
    if after is not None:
        place = connection.execute(select(columns.number).where(columns.id == after, columns.job == job_id)).scalar()
        query = query.where(columns.number < _known(place, after))
    rows = list(connection.execute(query.order_by(columns.number.desc()).limit(limit + 1)).mappings())
    return rows[:limit], len(rows) > limit


def _known(place: Any, after: str) -> Any:
    if place is None:
        raise JobInvalid(f"{shown(after)} is not in this list; give an id that an earlier page had", param="after")
    return tuple(place) if not isinstance(place, int) else place


def _has(pairs: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= pairs.items() if wanted else not pairs


def _seen(owner: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if owner is None else (_jobs.owner == owner,)


def _job(row: RowMapping) -> Job:
    fields = dict(row)
    fields["method"] = Method.model_validate(fields["method"])
    fields["training"] = JobFile(**fields["training"])
    fields["validation"] = JobFile(**fields["validation"]) if fields["validation"] else None
    return Job(**fields)
