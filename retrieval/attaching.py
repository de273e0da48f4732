"""How files come into a store: new ones wait to be read, those that are there stay, or are read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from retrieval import fields, tables
from retrieval.errors import FileNotFound, StoreInvalid
from retrieval.generations import raise_generation, slices, take_out
from retrieval.stores import activate
from retrieval.vector_store import Attributes, Chunking

BATCH_FILES = 2_000

_columns = tables.attachments.c
_files = tables.files.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file that is to be in a store. None leaves attributes and chunking as they are; new files take the store's."""

    file_id: str
    attributes: Attributes | None = None
    chunking: Chunking | None = None


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Each file once, 1 to 2,000 of them. Raises StoreInvalid, also for a file that is named twice and not alike."""
    if not 1 <= len(entries) <= BATCH_FILES:
        raise StoreInvalid(f"the batch names {len(entries)} files; it may name 1 to {BATCH_FILES}", param="files")
    by_id: dict[str, Entry] = {}
    for entry in entries:
        if by_id.setdefault(entry.file_id, entry) != entry:
            raise StoreInvalid(f"the batch names {entry.file_id[:96]!r} twice, and not alike", param="files")
    return list(by_id.values())


def put_in(
    connection: Connection,
    store_id: str,
    entries: Sequence[Entry],
    *,
    owner: str | None,
    batch_id: str | None,
    now: float,
) -> None:
    """Attach files, all or none. owner: whose they must be; None takes anybody's.

    Raises FileNotFound, StoreNotFound, StoreExpired, StoreInvalid.
    """
    _check_files(connection, [entry.file_id for entry in entries], owner, now)
    store = activate(connection, store_id, now)
    known = _known(connection, store_id, [entry.file_id for entry in entries])
    fresh: list[dict[str, Any]] = []
    replaced: list[int] = []
    kept: list[int] = []
    for entry in entries:
        attributes = None if entry.attributes is None else fields.read_attributes(entry.attributes)
        chunking = None if entry.chunking is None else fields.check_chunking(entry.chunking).as_object()
        old = known.get(entry.file_id)
        if old is None:
            row = {"attributes": attributes or {}, "chunking": chunking or store.chunking}
            fresh.append({"file_id": entry.file_id, **row})
            continue
        changed = attributes is not None and attributes != old["attributes"]
        if old["status"] in ("in_progress", "completed") and chunking in (None, old["chunking"]):
            kept.append(old["number"])
            if changed:
                _set_attributes(connection, store_id, old["number"], attributes)
            continue
        replaced.append(old["number"])
        row = {"attributes": attributes if changed else old["attributes"], "chunking": chunking or old["chunking"]}
        fresh.append({"file_id": entry.file_id, **row})
    take_out(connection, store_id, replaced, now)
    _add(connection, fresh, store_id=store_id, batch_id=batch_id, created_at=now, due_at=now)
    if batch_id is not None:
        for some in slices(kept):
            connection.execute(update(tables.attachments).where(_columns.number.in_(some)).values(batch_id=batch_id))


def _check_files(connection: Connection, file_ids: Sequence[str], owner: str | None, now: float) -> None:
    """That all are there, and stay until the end of the transaction."""
    seen = [_files.complete, or_(_files.expires_at.is_(None), _files.expires_at > now)]
    if owner is not None:
        seen.append(_files.owner == owner)
    found: set[str] = set()
    for some in slices(sorted(file_ids)):
        query = select(_files.id).where(_files.id.in_(some), *seen).order_by(_files.id).with_for_update(read=True)
        found.update(connection.execute(query).scalars())
    for file_id in file_ids:
        if file_id not in found:
            raise FileNotFound(f"no file has the id {file_id[:96]!r}; upload it first")


def _known(connection: Connection, store_id: str, file_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Those that are in the store already, by file."""
    wanted = (_columns.file_id, _columns.number, _columns.status, _columns.attributes, _columns.chunking)
    found: dict[str, Mapping[str, Any]] = {}
    for some in slices(file_ids):
        query = select(*wanted).where(_columns.store_id == store_id, _columns.file_id.in_(some))
        found |= {row["file_id"]: row for row in connection.execute(query).mappings()}
    return found


def _set_attributes(connection: Connection, store_id: str, number: int, attributes: Mapping[str, Any] | None) -> None:
    generation = raise_generation(connection, store_id)
    values = {"attributes": attributes, "generation": generation}
    connection.execute(update(tables.attachments).where(_columns.number == number).values(**values))


def _add(connection: Connection, rows: Sequence[Mapping[str, Any]], **of_all: Any) -> None:
    """Rows that wait to be read; their generation is 0, because nobody sees them yet."""
    waiting = {"status": "in_progress", "usage_bytes": 0, "generation": 0, "attempts": 0, "starts": 0}
    progress = {"chunks_done": 0, "chunks_total": 0}
    if rows:
        connection.execute(insert(tables.attachments), [{**of_all, **waiting, **progress, **row} for row in rows])
