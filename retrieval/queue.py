"""The files that wait to be read, as the ingestion process sees them: claimed for a while, renewed, and ended once.

A claim is a lease. Whoever loses it (it ran out and another took it, or the file was cancelled or detached) is told so
by its next call, and cannot change the file any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from retrieval import tables
from retrieval.chunk_rows import add_chunks, add_windows
from retrieval.errors import ParseCode
from retrieval.generations import raise_generation
from retrieval.passage import Chunk
from retrieval.ports import Store
from retrieval.store_files import store_file, store_files
from retrieval.vector_store import Chunking, StoreFile

LEASE_SECONDS = 60.0

_columns = tables.attachments.c
_FREE = {"lease_holder": None, "lease_until": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A file of a store that somebody has claimed."""

    file: StoreFile
    owner: str  # of the file
    holder: str

    @property
    def number(self) -> int:
        """Of the attachment."""
        return self.file.number

    @property
    def store_id(self) -> str:
        return self.file.store_id

    @property
    def file_id(self) -> str:
        return self.file.file_id

    @property
    def filename(self) -> str:
        return self.file.filename

    @property
    def digest(self) -> str:
        """SHA-256 of the file's bytes."""
        return self.file.digest

    @property
    def chunking(self) -> Chunking:
        return self.file.chunking

    @property
    def attempts(self) -> int:
        """How often it was claimed, this time included."""
        return self.file.attempts

    @property
    def starts(self) -> int:
        """How often it is begun without having come any further, this time included."""
        return self.file.starts + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What is to be read."""

    waiting: int  # due, and nobody works on it
    working: int
    later: int  # failed for a reason that may pass; tried again by itself
    oldest_seconds: float  # since the first of those that wait was attached or given back


class Queue:
    """The queue's part of the table of files in stores."""

    def __init__(
        self,
        database: Store,
        *,
        clock: Callable[[], float] = time.time,
        on_write: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """on_write: called inside every transaction that ended a file; progress is no reason."""
        self._database = database
        self._clock = clock
        self._on_write = on_write

    def is_due(self) -> bool:
        """Whether `claim` would find something now."""
        with self._database.read() as connection:
            return connection.execute(select(_columns.number).where(*self._due()).limit(1)).first() is not None

    def claim(self, holder: str, *, lease_seconds: float = LEASE_SECONDS) -> Job | None:
        """The file that has been due longest, for this holder alone; None when none is due."""
        claimed = self.claim_many(holder, 1, lease_seconds=lease_seconds)
        return claimed[0] if claimed else None

    def claim_many(self, holder: str, most: int, *, lease_seconds: float = LEASE_SECONDS) -> list[Job]:
        """Several at once, the longest due first."""
        if not self.is_due():  # looking is no reason to wait for writers
            return []
        due = select(_columns.number).where(*self._due()).order_by(_columns.due_at, _columns.number)
        taken = {
            "lease_holder": holder,
            "lease_until": self._clock() + lease_seconds,
            "attempts": _columns.attempts + 1,
        }
        with self._database.write() as connection:
            numbers = list(connection.execute(due.limit(most).with_for_update(skip_locked=True)).scalars())
            connection.execute(update(tables.attachments).where(_columns.number.in_(numbers)).values(**taken))
            query = store_files(tables.files.c.owner).where(_columns.number.in_(numbers))
            rows = connection.execute(query.order_by(_columns.due_at, _columns.number)).mappings().all()
        return [Job(file=store_file(row), owner=row["owner"], holder=holder) for row in rows]

    def begin(self, job: Job) -> bool:
        """Note durably that this may end the process from now on; False as in `renew`."""
        with self._database.write() as connection:
            return _change(connection, job, starts=job.starts)

    def renew(
        self,
        job: Job,
        *,
        done: int | None = None,
        total: int | None = None,
        further: bool = False,
        lease_seconds: float = LEASE_SECONDS,
    ) -> bool:
        """Keep the claim, and tell how many chunks are done. False: stop, the file is not this job's any more.

        further: something of the file has become durable, so that its next start is not in vain.
        """
        values: dict[str, Any] = {"lease_until": self._clock() + lease_seconds}
        if further:
            values["starts"] = 0
        if done is not None:
            values["chunks_done"] = done
        if total is not None:
            values["chunks_total"] = total
        with self._database.write() as connection:
            return _change(connection, job, **values)

    def complete(
        self, job: Job, chunks: Sequence[Chunk], window_digests: Sequence[Sequence[str]], fingerprint: str
    ) -> bool:
        """Make the file visible: its chunks and the vectors of their windows, in one transaction.

        window_digests: for each chunk, the SHA-256 of what each of its windows embedded; those vectors must be there,
        else RetrievalError. False: the file is not this job's any more, or its store's time is over; nothing changed.
        """
        try:
            with self._database.write() as connection:
                self._complete(connection, job, chunks, window_digests, fingerprint)
        except _Lost:
            return False
        return True

    def fail(self, job: Job, code: ParseCode, message: str) -> bool:
        """End the file for good, with a sentence for its owner; False as above."""
        ended = {"status": "failed", "error_code": code, "error_message": message, **_FREE}
        with self._database.write() as connection:
            changed = _change(connection, job, **ended)
            self._on_write(connection)
            return changed

    def retry(self, job: Job, message: str, delay_seconds: float) -> bool:
        """Give the file back, to be tried again later; False as above."""
        later = {"due_at": self._clock() + delay_seconds, "error_message": message, "starts": job.starts, **_FREE}
        with self._database.write() as connection:
            return _change(connection, job, **later)

    def postpone(self, job: Job) -> bool:
        """Give the file back behind all that wait; this start did no harm and does not count. False as above."""
        behind = {"due_at": self._clock(), "starts": 0, **_FREE}
        with self._database.write() as connection:
            return _change(connection, job, **behind)

    def release(self, holder: str) -> int:
        """Give back whatever this holder has, because it ends or has died; returns how many."""
        held = (_columns.status == "in_progress", _columns.lease_holder == holder)
        with self._database.read() as connection:
            if connection.execute(select(_columns.number).where(*held).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            return connection.execute(update(tables.attachments).where(*held).values(**_FREE)).rowcount

    def others_wait(self, holder: str) -> bool:
        """Whether something is due that this holder does not have."""
        mine = func.coalesce(_columns.lease_holder, "") == holder
        with self._database.read() as connection:
            return connection.execute(select(_columns.number).where(*self._due(), ~mine).limit(1)).first() is not None

    def pending(self) -> Pending:
        """How much is to be read, for metrics."""
        now = self._clock()
        here = _columns.status == "in_progress"
        with self._database.read() as connection:
            count = select(func.count()).select_from(tables.attachments).where(here)
            waiting, oldest = connection.execute(
                select(func.count(), func.min(_columns.due_at)).where(*self._due())
            ).one()
            working = connection.execute(count.where(_columns.lease_until > now)).scalar_one()
            later = connection.execute(count.where(_columns.due_at > now)).scalar_one()
        oldest_seconds = 0.0 if oldest is None else max(0.0, now - oldest)
        return Pending(waiting=waiting, working=working, later=later, oldest_seconds=oldest_seconds)

    def _due(self) -> tuple[ColumnElement[bool], ...]:
        now = self._clock()
        free = or_(_columns.lease_until.is_(None), _columns.lease_until <= now)
        return _columns.status == "in_progress", _columns.due_at <= now, free

    def _complete(
        self,
        connection: Connection,
        job: Job,
        chunks: Sequence[Chunk],
        window_digests: Sequence[Sequence[str]],
        fingerprint: str,
    ) -> None:
        generation = raise_generation(connection, job.store_id)  # first: those who change one store take turns
        if generation is None:
            raise _Lost
        if connection.execute(select(_columns.number).where(*_ours(job)).with_for_update()).first() is None:
            raise _Lost
        ids = add_chunks(connection, job.store_id, job.number, generation, chunks)
        by_chunk = dict(zip(ids, window_digests, strict=True))
        used = sum(len(chunk.text.encode(errors="replace")) for chunk in chunks)
        used += add_windows(connection, job.store_id, generation, {job.number: by_chunk}, fingerprint)
        ended = {
            "status": "completed",
            "error_code": None,
            "error_message": None,
            "generation": generation,
            "usage_bytes": used,
            "chunks_done": len(chunks),
            "chunks_total": len(chunks),
            **_FREE,
        }
        # Once: PostgreSQL looks at the file's row again for a row that is changed twice, and that is out of turn.
        _change(connection, job, **ended)
        if by_chunk:
            _settle_fingerprint(connection, job.store_id, generation, fingerprint)
        self._on_write(connection)


class _Lost(Exception):
    """The job is not its holder's any more: the transaction is undone."""


def _change(connection: Connection, job: Job, **values: Any) -> bool:
    """Change the attachment while it is the job's."""
    return connection.execute(update(tables.attachments).where(*_ours(job)).values(**values)).rowcount == 1


def _ours(job: Job) -> tuple[ColumnElement[bool], ...]:
    """Attempts tell a claim from a later one of the same holder."""
    return (
        _columns.number == job.number,
        _columns.status == "in_progress",
        _columns.lease_holder == job.holder,
        _columns.attempts == job.attempts,
    )


def _settle_fingerprint(connection: Connection, store_id: str, generation: int, fingerprint: str) -> None:
    """A store without visible vectors takes those of whoever brings the first; an index of before is built anew."""
    stores, windows = tables.stores.c, tables.windows.c
    current = connection.execute(select(stores.fingerprint).where(stores.id == store_id)).scalar_one()
    if current == fingerprint:
        return
    visible = select(windows.id).where(windows.store_id == store_id, windows.fingerprint == current).limit(1)
    if current is not None and connection.execute(visible).first() is not None:
        return  # found by its words only until the store is embedded anew
    settled = {"fingerprint": fingerprint, "oldest_generation": generation}
    connection.execute(update(tables.stores).where(stores.id == store_id).values(**settled))
