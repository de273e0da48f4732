"""A backup becomes an installation again, where none is.

Files first, each checked while it is copied, then all rows in one transaction, read back before it ends: killed at any
point, there is no installation yet, and the same command goes on. Indexes are built anew by the server.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from adapters.training.checkpoints import whole
from retrieval.ports import Blobs as StagedBlobs
from server.storage import migrations
from server.storage.backup import rows, schema
from server.storage.backup.archive import Part, Reader, blocks
from server.storage.backup.checking import check_references, lines, manifest_of, parts_of, verified
from server.storage.backup.manifest import Manifest
from server.storage.backup.references import BLOBS, JOBS
from server.storage.database import MIGRATION_LOCK, Database
from server.storage.errors import BackupFailed, BackupInvalid

DATA = "data/"


class Blobs(StagedBlobs, Protocol):
    """What a restoration needs of the blob store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty:
    """Where an installation shall be; who restores holds its data directory's lock."""

    database: Database
    blobs: Blobs
    data_dir: Path
    training_dir: Path


def restore(archive: Reader, into: Empty, *, say: Callable[[str], None] = lambda _: None) -> Manifest:
    """Bring back everything, at this manyhats' revision; returns what the backup's manifest says.

    Raises BackupInvalid for a damaged backup, BackupFailed where there is an installation already.
    """
    manifest = manifest_of(archive)
    parts = parts_of(archive, manifest)
    with into.database.read() as connection:
        _check_empty(connection)
    check_references(archive, manifest, parts)
    say(f"copying {len(parts)} files of {manifest.n_bytes / 1e6:.1f} MB")
    for name, some in _folders(parts):
        if name.startswith(BLOBS):
            _restore_blob(archive, into.blobs, name.removeprefix(BLOBS), some)
        elif name.startswith(JOBS):
            _restore_job(archive, into.training_dir, name.removeprefix(JOBS), some)
        elif name == DATA.rstrip("/"):
            for part in some:
                _restore_file(archive, into.data_dir / part.name.removeprefix(DATA), part)
    say("writing the database")
    with into.database.write() as connection:
        _restore_rows(connection, archive, manifest, parts)
    into.database.migrate()
    return manifest


def _check_empty(connection: sa.Connection) -> None:
    if not schema.is_empty(connection):
        raise BackupFailed(
            "there is an installation already; a backup is restored where none is: "
            "give another --data-dir (and an empty database where MANYHATS_DATABASE_URL is set)"
        )


def _folders(parts: dict[str, Part]) -> Iterator[tuple[str, list[Part]]]:
    """What belongs together: a blob, all of a job's files, all of the data directory's."""

    def folder(part: Part) -> str:
        first, second, *_ = part.name.split("/")
        return f"{first}/{second}" if f"{first}/" == JOBS else part.name.rpartition("/")[0]

    for name, some in groupby(sorted(parts.values(), key=lambda part: (folder(part), part.name)), key=folder):
        yield name, list(some)


def _restore_blob(archive: Reader, blobs: Blobs, key: str, parts: Sequence[Part]) -> None:
    try:
        there = blobs.path(key)
    except (FileNotFoundError, ValueError):
        pass
    else:  # of an earlier attempt, or in a bucket that is still there
        if all(_is_same(there / _last(part), part) for part in parts):
            return
        blobs.remove(key)
    with blobs.staging() as folder:
        for part in parts:
            _copy(archive, part, folder / _last(part))
        try:
            blobs.commit(folder, key)
        except ValueError as error:
            raise BackupInvalid(f"the backup's {parts[0].name} is no blob: {error}") from error


def _restore_job(archive: Reader, training: Path, job_id: str, parts: Sequence[Part]) -> None:
    training.mkdir(mode=0o700, parents=True, exist_ok=True)
    with whole(training / job_id) as folder:
        folder.chmod(0o700)
        for part in parts:
            to = folder / part.name.removeprefix(f"{JOBS}{job_id}/")
            to.parent.mkdir(exist_ok=True, parents=True)
            _copy(archive, part, to)


def _restore_file(archive: Reader, to: Path, part: Part) -> None:
    new = to.with_name(f"{to.name}.new")
    _copy(archive, part, new)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(to)


def _copy(archive: Reader, part: Part, to: Path) -> None:
    with to.open("wb") as file:
        for block in verified(archive.open(part.name), part):
            file.write(block)


def _is_same(path: Path, part: Part) -> bool:
    sha256 = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in blocks(file):
                sha256.update(block)
    except FileNotFoundError:
        return False
    return sha256.hexdigest() == part.sha256


def _last(part: Part) -> str:
    return part.name.rpartition("/")[2]


def _restore_rows(connection: sa.Connection, archive: Reader, manifest: Manifest, parts: dict[str, Part]) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    _check_empty(connection)
    migrations.upgrade(connection, manifest.revision)
    tables = schema.tables(connection, manifest.tables)
    for table in tables:
        found = lines(archive, manifest, parts, table.name)
        header = next(found, b"")
        if header != rows.header(table):
            raise BackupInvalid(f"the backup's table {table.name!r} has other columns than its revision: {header!r}")
        rows.write(connection, table, found)
    schema.set_sequences(connection, tables, manifest.sequences)
    for table in tables:
        if rows.count(connection, table) != manifest.tables[table.name]:
            raise BackupFailed(f"the rows of {table.name!r} are not those of the backup after they were written")
