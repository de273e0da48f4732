"""Which folders of files the rows of an installation refer to, by what each is called in a backup.

blobs/files/<digest>        the bytes of a file
blobs/adapters/<digest>     an adapter version
training/<job>              the data of a job that is not over; once it is, nobody needs its folder
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from adapters import manifest
from adapters.errors import AdapterRefused
from adapters.shelf import FILES
from adapters.tables import versions
from adapters.training.folders import TRAINING, VALIDATION
from adapters.training.job import OVER
from adapters.training.tables import jobs
from retrieval.contents import CONTENT
from retrieval.tables import files

BLOBS = "blobs/"
JOBS = "training/"
PARENT = "parent"  # in a job's folder: the adapter that it goes on from, which may have been removed

COLUMNS: Mapping[str, tuple[str, ...]] = {
    files.name: ("digest", "complete"),
    versions.name: ("digest",),
    jobs.name: ("id", "status", "training", "validation"),
}  # what of which table is looked at


class Blobs(Protocol):
    """What backups need of the blob store."""

    def path(self, key: str) -> Path:
        """The folder of a key; raises FileNotFoundError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A folder of files."""

    name: str  # in a backup
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the files that must be there, where rows tell it

    @property
    def key(self) -> str | None:
        """The blob's; None for what is no blob."""
        return self.name.removeprefix(BLOBS) if self.name.startswith(BLOBS) else None

    def locate(self, blobs: Blobs, training: Path) -> Path:
        """Where it lies now. Raises FileNotFoundError."""
        if self.key is not None:
            return blobs.path(self.key)
        folder = training / self.name.removeprefix(JOBS)
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        return folder

    def files(self, folder: Path) -> list[Path]:
        """Those to keep, relative to the folder: a job's checkpoints are not. Raises FileNotFoundError."""
        needed = [folder / name for name in self.sha256]
        if self.key is not None:
            found = [path for path in folder.iterdir() if path.is_file()]
        else:
            parent = folder / PARENT
            needed += [parent / name for name in FILES] if parent.is_dir() else []
            found = [path for path in needed if path.is_file()]
        if not found or not set(needed) <= set(found):  # it is being removed at this moment, or somebody took some
            raise FileNotFoundError(f"{folder} lacks files")
        return sorted(path.relative_to(folder) for path in found)

    def is_intact(self, folder: Path, sha256: Mapping[str, str]) -> bool:
        """Whether the files are those that the rows mean. sha256: of each. Raises FileNotFoundError."""
        if self.name.startswith(f"{BLOBS}adapters/"):
            try:
                return manifest.digest(folder) == self.name.rpartition("/")[2]
            except AdapterRefused:
                return False
        return all(sha256.get(name) == digest for name, digest in self.sha256.items())


def references(connection: sa.Connection) -> list[Reference]:
    """Of every row, as one moment has them."""
    found: dict[str, Reference] = {}
    for table in (files, versions, jobs):
        query = sa.select(*(table.c[name] for name in COLUMNS[table.name]))
        rows = connection.execute(query, execution_options={"stream_results": True}).mappings()
        found |= {one.name: one for one in referred(table.name, map(dict, rows))}
    return sorted(found.values(), key=lambda one: one.name)


def referred(table: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[Reference]:
    """What these rows of a table refer to; columns of other tables are not looked at."""
    for row in rows:
        if table == files.name and row["complete"]:  # else its bytes are still on their way, and no client knows of it
            yield Reference(name=f"{BLOBS}files/{row['digest']}", sha256={CONTENT: row["digest"]})
        elif table == versions.name:
            yield Reference(name=f"{BLOBS}adapters/{row['digest']}")
        elif table == jobs.name and row["status"] not in OVER:
            given = {TRAINING: row["training"], VALIDATION: row["validation"]}
            yield Reference(
                name=f"{JOBS}{row['id']}", sha256={name: one["digest"] for name, one in given.items() if one}
            )
