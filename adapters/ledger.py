"""The registry's statements: each works inside the transaction that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from adapters import tables
from adapters.adapter import Adapter, Version
from adapters.errors import AdapterNotFound, PinLimit
from adapters.manifest import Manifest
from adapters.names import shown
from adapters.routing import traffic_from

GONE = "its files are gone from the store; register the same bytes again"

_WRITERS = 0x6D616E7901  # PostgreSQL's advisory locks are numbers; this one is the registry's


def lock(connection: Connection) -> None:
    """Until the transaction ends no other process writes: what is read now stays true. SQLite does that by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_WRITERS)))


def read_adapter(connection: Connection, name: str) -> Adapter | None:
    """One adapter as the database has it now."""
    found = read_adapters(connection, name)
    return found[0] if found else None


def the_adapter(connection: Connection, name: str) -> Adapter:
    """The same; raises AdapterNotFound."""
    adapter = read_adapter(connection, name)
    if adapter is None:
        raise AdapterNotFound(f"no adapter named {shown(name)}")
    return adapter


def read_adapters(connection: Connection, name: str | None = None) -> list[Adapter]:
    """Every adapter, or the one of that name; versions in the order that they were registered."""
    # One statement, because two of them may see two states, and a name must never point to a version that is not there.
    labelled = [column.label(f"version_{column.name}") for column in tables.versions.c]
    query = select(tables.adapters, *labelled).outerjoin_from(tables.adapters, tables.versions)
    query = query.order_by(tables.adapters.c.name, tables.versions.c.lora_id)
    if name is not None:
        query = query.where(tables.adapters.c.name == name)
    rows = connection.execute(query).mappings().all()
    return [_adapter(list(group)) for _, group in groupby(rows, key=itemgetter("name"))]


def _adapter(rows: Sequence[RowMapping]) -> Adapter:
    fields = {column.name: rows[0][column.name] for column in tables.adapters.c}
    versions = tuple(_version(row) for row in rows if row["version_lora_id"] is not None)
    fields |= {"traffic": traffic_from(fields["traffic"]), "previous": traffic_from(fields["previous"]) or None}
    adapter = Adapter(**fields, versions=versions)
    broken = [version for version in adapter.active if version.error is not None]
    if not broken:
        return adapter
    return replace(adapter, status="failed", error=f"{broken[0].id} cannot be served: {broken[0].error}")


def _version(row: RowMapping) -> Version:
    return Version(**{column.name: row[f"version_{column.name}"] for column in tables.versions.c})


def put_adapter(connection: Connection, name: str, **fields: Any) -> None:
    """A new row, in place of one that never became ready."""
    connection.execute(delete(tables.adapters).where(tables.adapters.c.name == name))
    connection.execute(insert(tables.adapters).values(name=name, **fields))


def set_adapter(connection: Connection, name: str, **fields: Any) -> None:
    """Change some of a row's fields."""
    connection.execute(update(tables.adapters).where(tables.adapters.c.name == name).values(**fields))


def fail_staging(connection: Connection, name: str, error: str) -> None:
    """Only what is being fetched can fail to be."""
    staging = (tables.adapters.c.name == name) & (tables.adapters.c.status == "staging")
    connection.execute(update(tables.adapters).where(staging).values(status="failed", error=error))


def fail_stalled(connection: Connection, before: float, error: str) -> int:
    """What is being fetched since before a time; returns how many."""
    stalled = (tables.adapters.c.status == "staging") & (tables.adapters.c.created_at < before)
    return connection.execute(update(tables.adapters).where(stalled).values(status="failed", error=error)).rowcount


def remove_adapter(connection: Connection, name: str) -> None:
    """The name and all of its versions."""
    connection.execute(delete(tables.versions).where(tables.versions.c.adapter == name))
    connection.execute(delete(tables.adapters).where(tables.adapters.c.name == name))


def remove_staging(connection: Connection, before: float | None) -> None:
    """Names whose source was still being fetched when their process ended: all, or those begun before a time."""
    left = delete(tables.adapters).where(tables.adapters.c.status == "staging")
    connection.execute(left if before is None else left.where(tables.adapters.c.created_at < before))


def pin(connection: Connection, name: str, base_fingerprint: str, limit: int | None) -> None:
    """Pin a name; raises PinLimit when the pinned names of this base then mean more versions than the limit."""
    set_adapter(connection, name, pinned=True)
    columns = tables.adapters.c
    held = (columns.base_fingerprint == base_fingerprint) & columns.pinned & (columns.status != "failed")
    pins = sum(max(1, len(traffic)) for traffic in connection.execute(select(columns.traffic).where(held)).scalars())
    if limit is not None and pins > limit:
        raise PinLimit(
            f"pinning {name!r} would hold {pins} of the engine's slots, and {limit} may be held; "
            "unpin another adapter or raise MANYHATS_MAX_ADAPTERS"
        )


def put_version(
    connection: Connection, name: str, manifest: Manifest, *, source: str, created_at: float
) -> tuple[Version, bool]:
    """The name's version with these bytes, whose files are there, and whether it is new; the database gives ids."""
    known = the_adapter(connection, name).having(manifest.digest)
    if known is None:
        columns = {"digest": manifest.digest, "rank": manifest.rank, "size_bytes": manifest.size_bytes}
        rest = {field.name: getattr(manifest, field.name) for field in fields(manifest) if field.name not in columns}
        further = rest.pop("details")
        details = {**rest, **further}
        row = {"adapter": name, **columns, "source": source, "created_at": created_at, "details": details}
        connection.execute(insert(tables.versions).values(**row))
    elif known.error is not None:
        set_version(connection, known, error=None)
    version = the_adapter(connection, name).having(manifest.digest)
    assert version is not None
    return version, known is None


def set_version(connection: Connection, version: Version, **fields: Any) -> None:
    """Change some of a row's fields."""
    connection.execute(update(tables.versions).where(tables.versions.c.lora_id == version.lora_id).values(**fields))


def add_details(connection: Connection, version: Version, facts: Mapping[str, Any]) -> None:
    """Further facts beside those that are there."""
    here = tables.versions.c.lora_id == version.lora_id
    details = connection.execute(select(tables.versions.c.details).where(here)).scalar() or {}
    set_version(connection, version, details={**details, **facts})


def remove_version(connection: Connection, version: Version) -> None:
    """One row; its files are collected later."""
    connection.execute(delete(tables.versions).where(tables.versions.c.lora_id == version.lora_id))


def digests(connection: Connection) -> set[str]:
    """Of every version under any name: their files must stay."""
    return set(connection.execute(select(tables.versions.c.digest)).scalars())


def is_claimed(connection: Connection, digest: str) -> bool:
    """Whether some version has these files."""
    having = select(tables.versions.c.digest).where(tables.versions.c.digest == digest).limit(1)
    return connection.execute(having).first() is not None


def n_versions_after(connection: Connection, lora_id: int) -> int:
    """How many of those that got a later id are there."""
    later = select(func.count()).select_from(tables.versions).where(tables.versions.c.lora_id > lora_id)
    return int(connection.execute(later).scalar_one())


def mark_missing(connection: Connection, there: Callable[[str], bool]) -> None:
    """Write on every version whether its files are there."""
    columns = tables.versions.c
    known = connection.execute(select(columns.digest, columns.error).distinct()).all()
    for digest, error in known:
        found = None if there(digest) else GONE
        if found != error:
            connection.execute(update(tables.versions).where(columns.digest == digest).values(error=found))
