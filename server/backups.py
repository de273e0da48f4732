"""What `manyhats backup`, `restore` and `migrate-data` do, on the installation of the settings.

A backup is made while a server runs, or none; the other two hold the data directory, so that none does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydantic import ValidationError

from server.blobs import each_once
from server.cli_output import CommandFailed
from server.demo import INSTALLED
from server.settings import Settings
from server.storage.backup.archive import reading
from server.storage.backup.checking import check
from server.storage.backup.making import Installation, back_up
from server.storage.backup.manifest import Manifest
from server.storage.backup.moving import MovedBlobs, move_blobs, move_rows
from server.storage.backup.restoring import Empty, restore
from server.storage.backup.rows import Counted
from server.storage.blob_store import BlobStore
from server.storage.blobs import LocalBlobs
from server.storage.data_lock import DataLock
from server.storage.database import Database
from server.storage.errors import DataDirBusy
from server.storage.file_lock import try_lock

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What is where it should go, compared with where it came from."""

    tables: dict[str, Counted]
    blobs: MovedBlobs | None  # None where they stay


def make(settings: Settings, to: Path, *, say: Say) -> Manifest:
    """Back up the installation. Raises CommandFailed where there is none, else what `back_up` raises."""
    _check_there(settings)
    with closing(Database(settings.sql_url)) as database, each_once(settings) as blobs:
        installation = Installation(
            database=database,
            blobs=blobs,
            data_dir=settings.data_dir,
            training_dir=settings.training_dir,
            beside=(INSTALLED,),
        )
        return back_up(installation, to, say=say)


def verify(path: Path, *, say: Say) -> Manifest:
    """Read all of a backup. Raises BackupInvalid."""
    with reading(path) as archive:
        return check(archive, say=say)


def bring_back(settings: Settings, path: Path, *, say: Say) -> Manifest:
    """Restore a backup to the settings' data directory and database. Raises what `restore` raises, and DataDirBusy."""
    with (
        reading(path) as archive,
        DataLock(settings.data_dir),
        closing(Database(settings.sql_url)) as database,
        each_once(settings) as blobs,
    ):
        into = Empty(
            database=database,
            blobs=blobs,
            data_dir=settings.data_dir,
            training_dir=settings.training_dir,
        )
        return restore(archive, into, say=say)


def move(settings: Settings, database_url: str, blobs_to: str, *, say: Say) -> Moved:
    """Move the data directory's SQLite to PostgreSQL, and the blobs where `blobs_to` names a store for them.

    Raises CommandFailed, DataDirBusy while a server or a training worker runs, else what `move_rows` raises.
    """
    local = settings.model_copy(update={"database_url": None})
    if not (settings.data_dir / "manyhats.db").is_file():
        raise CommandFailed(f"the data directory {str(settings.data_dir)!r} has no SQLite database to move")
    _check_postgresql(database_url)
    with DataLock(settings.data_dir):
        _check_no_worker(settings.data_dir)
        with closing(Database(local.sql_url)) as source, closing(Database(database_url)) as target:
            blobs = None
            if blobs_to:  # first: what rows refer to is there before they are
                with _blobs_at(settings, blobs_to) as to:
                    blobs = move_blobs(source, LocalBlobs(local.blob_dir), to, say=say)
            tables = move_rows(source, target, whose=str(settings.data_dir.resolve()), say=say)
    return Moved(tables=tables, blobs=blobs)


def _blobs_at(settings: Settings, place: str) -> AbstractContextManager[BlobStore]:
    """The store that blobs move to."""
    if "://" not in place:
        return nullcontext(LocalBlobs(Path(place)))
    try:
        checked = Settings.model_validate(settings.model_dump() | {"blob_url": place})
    except ValidationError as error:
        raise CommandFailed(f"--blobs-to {place!r} is no folder and no bucket: {error.errors()[0]['msg']}") from error
    return each_once(checked)


def _check_there(settings: Settings) -> None:
    """Opening a SQLite file that is not there would make it."""
    if settings.database_url is None and not (settings.data_dir / "manyhats.db").is_file():
        raise CommandFailed(
            f"there is no installation in the data directory {str(settings.data_dir)!r} (MANYHATS_DATA_DIR)"
        )


def _check_postgresql(database_url: str) -> None:
    try:
        backend = sa.make_url(database_url).get_backend_name()
    except sa.exc.ArgumentError as error:  # whose words may have the password
        raise CommandFailed("--to is no database URL; one is postgresql+psycopg://user@host/name") from error
    if backend != "postgresql":
        raise CommandFailed(f"--to is of {backend!r}; an installation moves to postgresql+psycopg://user@host/name")


def _check_no_worker(data_dir: Path) -> None:
    for path in sorted((data_dir / "workers").glob("*.lock")):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if not try_lock(descriptor):
                raise DataDirBusy("a training worker works on the data directory; stop `manyhats worker train` first")
        finally:
            os.close(descriptor)
