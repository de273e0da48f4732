"""An installation in SQLite and a folder moves to PostgreSQL, and its blobs to another store where that is asked for.

Rows go over by primary key, in batches that are a transaction each, so that a killed move goes on after the last one.
Until all is there and compared, what stands in place of the database's revision keeps servers out of it and says
whose rows these are. The source is only read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from server.storage import migrations
from server.storage.backup import rows, schema
from server.storage.backup.references import Blobs as Readable
from server.storage.backup.references import references
from server.storage.backup.restoring import Blobs
from server.storage.backup.rows import Counted
from server.storage.database import MIGRATION_LOCK, Database
from server.storage.errors import BackupFailed, BackupInvalid

Say = Callable[[str], None]


def move_rows(source: Database, to: Database, *, whose: str, say: Say = lambda _: None) -> dict[str, Counted]:
    """Copy every row, or what an earlier attempt has left to do; returns what each table holds, on both sides alike.

    whose: tells one installation from another. The source must be of this manyhats' revision, and nobody may write to
    it meanwhile; the target a PostgreSQL database without an installation, or with a part of this one. Raises
    BackupFailed otherwise, and BackupInvalid for a row that PostgreSQL does not take.
    """
    mark = migrations.MOVING + hashlib.sha256(whose.encode()).hexdigest()[:16]
    with source.read() as reading:
        _check_source(reading)
        goes_on = _begin(to, mark)
        tables = schema.tables(reading)
        before = {table.name: rows.count(reading, table) for table in tables}
        wrong = _copy_all(reading, to, tables, before, mark, say, is_fresh=not goes_on)
        if wrong and goes_on:  # the source has changed since an earlier attempt copied the first of them
            say(f"{', '.join(wrong)}: not what an earlier attempt has copied; copying everything anew")
            _clear(to, tables, mark)
            wrong = _copy_all(reading, to, tables, before, mark, say, is_fresh=True)
        if wrong:
            raise BackupFailed(f"the rows of {', '.join(wrong)} are not the same after they were copied")
        _end(to, tables, schema.sequences(reading, tables), mark)
    return before


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedBlobs:
    """The blobs that rows refer to, by key."""

    there: int  # in the other store now
    missing: tuple[str, ...]  # that the installation had lost already
    damaged: tuple[str, ...]  # whose bytes were not those of their digest already; they went as they were


def move_blobs(database: Database, source: Readable, to: Blobs, *, say: Say = lambda _: None) -> MovedBlobs:
    """Copy the blobs that rows refer to and that are not there yet, and compare each with its digest on the way."""
    with database.read() as connection:
        wanted = {one.key: one for one in references(connection) if one.key is not None}
    there = set(to.keys())
    missing, damaged = [], []
    say(f"{len(wanted)} blobs, {len(wanted.keys() & there)} of them there already")
    for key in sorted(wanted.keys() - there):
        try:
            folder = source.path(key)
            with to.staging() as staged:
                for path in wanted[key].files(folder):
                    shutil.copyfile(folder / path, staged / path)
                if not wanted[key].is_intact(staged, _digests(staged)):
                    damaged.append(key)
                to.commit(staged, key)
        except FileNotFoundError:
            missing.append(key)
    return MovedBlobs(there=len(wanted) - len(missing), missing=tuple(missing), damaged=tuple(damaged))


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _check_source(connection: sa.Connection) -> None:
    revision = schema.revision(connection)
    if revision is None:
        raise BackupFailed("there is no installation in the data directory: nothing to move")
    if revision != schema.head():
        raise BackupFailed(
            f"the source has revision {revision!r}, and this manyhats works with {schema.head()!r}; "
            "start the server once with this one, stop it, and move then"
        )


def _begin(to: Database, mark: str) -> bool:
    """The tables are there, and the mark is in place of their revision; whether they were already."""
    with to.write() as connection:
        if connection.dialect.name != "postgresql":
            raise BackupFailed("an installation moves to PostgreSQL: give --to postgresql+psycopg://…")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        if schema.is_empty(connection):
            migrations.upgrade(connection)
            _set_revision(connection, mark)
            return False
        revision = schema.revision(connection)
        if revision != mark:
            whose = "another move has begun" if str(revision).startswith(migrations.MOVING) else "there is one already"
            raise BackupFailed(
                f"an installation moves into a database without one, and in this one {whose}; give an empty database"
            )
        return True


def _copy_all(
    reading: sa.Connection,
    to: Database,
    tables: Sequence[sa.Table],
    before: Mapping[str, Counted],
    mark: str,
    say: Say,
    *,
    is_fresh: bool,
) -> list[str]:
    """Copy what is not there; the tables that do not hold the same then."""
    for table in tables:
        say(f"{table.name}: {before[table.name].rows} rows")
        try:
            _copy(reading, to, table, mark)
        except BackupInvalid:
            if is_fresh:
                raise
            return [table.name]  # what it refers to may lie before what an earlier attempt has copied
    with to.read() as connection:
        return [table.name for table in tables if rows.count(connection, table) != before[table.name]]


def _copy(reading: sa.Connection, to: Database, table: sa.Table, mark: str) -> None:
    with to.read() as connection:
        last = _last_key(connection, table)
    for batch in rows.batches(rows.read(reading, table, after=last)):
        with to.write() as connection:
            _hold(connection, mark)
            rows.insert(connection, table, batch)


def _last_key(connection: sa.Connection, table: sa.Table) -> Any:
    """The largest, compared byte by byte as the source does."""
    key = rows.key_of(table)
    compared = sa.collate(key, "C") if isinstance(key.type, sa.String) else key
    return connection.execute(sa.select(key).order_by(compared.desc()).limit(1)).scalar()


def _clear(to: Database, tables: Sequence[sa.Table], mark: str) -> None:
    with to.write() as connection:
        _hold(connection, mark)
        for table in reversed(tables):
            connection.execute(table.delete())


def _end(to: Database, tables: Sequence[sa.Table], last: Mapping[str, int], mark: str) -> None:
    with to.write() as connection:
        _hold(connection, mark)
        schema.set_sequences(connection, tables, last)
        _set_revision(connection, schema.head())


def _hold(connection: sa.Connection, mark: str) -> None:
    """Nobody else ends or begins a move until this transaction does."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    if schema.revision(connection) != mark:
        raise BackupFailed("another move into this database has ended meanwhile")


def _set_revision(connection: sa.Connection, revision: str) -> None:
    connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
