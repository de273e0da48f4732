"""A replica's own folder under the data directory, and what in it is everybody's.

A replica keeps its search indexes there, which two processes must not write at once. Folders are numbered, and a new
replica takes the first that nobody holds, with the indexes that it finds in it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from server.settings import Settings
from server.storage.data_lock import DataLock
from server.storage.errors import DataDirBusy

SHARED = (
    "blobs",
    "training",
    "cache/base",
    "cache/blobs",
    "cache/embedder",
)  # content-addressed, or written by one process at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaFolder:
    """Held until `close` or the process's end."""

    number: int  # from 0; no other replica of this machine has it now
    settings: Settings  # of the replica
    lock: DataLock

    @classmethod
    def take(cls, settings: Settings) -> ReplicaFolder:
        """The first folder that is free under the data directory of `settings`; a new one where all are held."""
        data_dir = settings.data_dir.resolve()
        for number in itertools.count():
            own = data_dir / "replicas" / str(number)
            try:
                lock = DataLock(own)
            except DataDirBusy:
                continue
            for name in SHARED:
                _link(own / name, data_dir / name)
            told = {"data_dir": own, "database_url": SecretStr(shared_database(settings)), "replica": True}
            return cls(number=number, settings=settings.model_copy(update=told), lock=lock)
        raise AssertionError("numbers do not end")

    def close(self) -> None:
        """Let another replica have it."""
        self.lock.close()


def shared_database(settings: Settings) -> str:
    """The URL of the database that all replicas use, the same from whatever folder it is read."""
    if settings.database_url is not None:
        return settings.sql_url
    return f"sqlite:///{settings.data_dir.resolve() / 'manyhats.db'}"


def _link(link: Path, target: Path) -> None:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target)
