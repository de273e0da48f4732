"""The backup of an installation, also while its server runs.

All rows are of one moment: one read transaction, which stops no writer on either database. Files never change under
their name, so that most are copied before that moment, while nothing is held; what has come since follows right after
it. A file that is deleted in between, though the moment still refers to it, makes the moment void: a later one, which
does not refer to it any more, is taken instead. What several moments running lack is lost, and the manifest says so.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from server.storage.backup import rows, schema
from server.storage.backup.archive import Part, Writer, writing
from server.storage.backup.manifest import FORMAT, MANIFEST, PARTS, Manifest, part_line, table_name
from server.storage.backup.references import Blobs, Reference, references
from server.storage.backup.rows import Counted
from server.storage.database import Database
from server.storage.errors import BackupFailed
from server.version import VERSION

PASSES = 3  # over the files before the moment
MOMENTS = 20  # until one is found whose files are all there
LOST_AFTER = 3  # moments at which the same files are missing

DATA = "data/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is backed up."""

    database: Database
    blobs: Blobs
    data_dir: Path
    training_dir: Path
    beside: tuple[str, ...] = ()  # further files of the data directory, by name, where they are there


def back_up(
    installation: Installation,
    to: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> Manifest:
    """Write a backup to a new folder, or a new file that ends in `.tar`; returns what its manifest says.

    say: is told what goes on. Raises BackupFailed, and whatever the disk and the database raise; then nothing bears the
    name.
    """
    with installation.database.read() as connection:
        _check_revision(connection)
    with writing(to) as archive:
        copies = _Copies(installation, archive)
        for name in installation.beside:  # they tell what rows were made once, and so are not newer than the rows
            copies.add_file(installation.data_dir / name, DATA + name)
        for _ in range(PASSES):
            with installation.database.read() as connection:
                wanted = copies.lacking(references(connection))
            if not wanted:
                break
            say(f"copying {len(wanted)} folders of files")
            copies.take(wanted)
        say("reading the database")
        taken = _moment(installation, archive, copies, clock)
        manifest = _finish(archive, copies, taken)
        archive.add_lines(MANIFEST, [manifest.as_json().removesuffix(b"\n")])
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    at: float
    revision: str
    references: Sequence[Reference]
    tables: dict[str, Counted]
    parts: Sequence[Part]
    sequences: dict[str, int]


class _Copies:
    """The folders of files that are in the backup already."""

    def __init__(self, installation: Installation, archive: Writer) -> None:
        self._installation = installation
        self._archive = archive
        self._parts: dict[str, list[Part]] = {}
        self._damaged: set[str] = set()
        self._misses: Tally[str] = Tally()
        self._files: list[Part] = []

    def add_file(self, path: Path, name: str) -> None:
        """A file of the data directory, where there is one."""
        if path.is_file():
            with path.open("rb") as file:
                self._files.append(self._archive.add(name, file))

    def lacking(self, wanted: Sequence[Reference]) -> list[Reference]:
        """Those that are not here."""
        return [one for one in wanted if one.name not in self._parts]

    def take(self, wanted: Sequence[Reference]) -> list[Reference]:
        """Copy what is lacking; returns those that are not there to be copied."""
        gone = []
        for one in self.lacking(wanted):
            try:
                self._take(one)
            except FileNotFoundError:
                self._archive.drop(one.name)
                gone.append(one)
        return gone

    def lost(self, gone: Sequence[Reference]) -> bool:
        """Count a moment at which these were missing; whether all of them are taken for lost by now."""
        self._misses.update(one.name for one in gone)
        return all(self._misses[one.name] >= LOST_AFTER for one in gone)

    def keep_only(self, wanted: Sequence[Reference]) -> None:
        """Drop what was deleted since it was copied."""
        for name in self._parts.keys() - {one.name for one in wanted}:
            self._archive.drop(name)
            del self._parts[name]

    @property
    def parts(self) -> Iterator[Part]:
        """Every file that is here."""
        yield from self._files
        for name in sorted(self._parts):
            yield from self._parts[name]

    @property
    def damaged(self) -> tuple[str, ...]:
        return tuple(sorted(self._damaged & self._parts.keys()))

    def _take(self, one: Reference) -> None:
        folder = one.locate(self._installation.blobs, self._installation.training_dir)
        parts, sha256 = [], {}
        for path in one.files(folder):
            with (folder / path).open("rb") as file:
                part = self._archive.add(f"{one.name}/{path.as_posix()}", file)
            parts.append(part)
            sha256[path.as_posix()] = part.sha256
        if not one.is_intact(folder, sha256):
            self._damaged.add(one.name)
        self._parts[one.name] = parts


def _check_revision(connection: sa.Connection) -> None:
    revision, known = schema.revision(connection), schema.head()
    if revision is None:
        raise BackupFailed("there is no installation in this database yet: nothing to back up")
    if revision != known:
        raise BackupFailed(
            f"the database has revision {revision!r}, and this manyhats works with {known!r}; "
            "make the backup with the manyhats that it belongs to, or start the server once with this one"
        )


def _moment(installation: Installation, archive: Writer, copies: _Copies, clock: Callable[[], float]) -> _Moment:
    for _ in range(MOMENTS):
        with installation.database.read() as connection:
            wanted = references(connection)  # its first statement is what settles the moment
            at = clock()
            gone = copies.take(wanted)
            if gone and not copies.lost(gone):
                continue
            found = schema.tables(connection)
            counted, parts = {}, []
            for table in found:
                counter = rows.Counter()
                parts.append(archive.add_lines(table_name(table.name), _lines(connection, table, counter)))
                counted[table.name] = counter.counted()
            return _Moment(
                at=at,
                revision=schema.head(),
                references=wanted,
                tables=counted,
                parts=parts,
                sequences=schema.sequences(connection, found),
            )
    raise BackupFailed(
        f"files were deleted faster than they could be copied, {MOMENTS} times running; "
        "make the backup when less is being deleted"
    )


def _lines(connection: sa.Connection, table: sa.Table, counter: rows.Counter) -> Iterator[bytes]:
    yield rows.header(table)
    for line in rows.read(connection, table):
        counter.add(line)
        yield line


def _finish(archive: Writer, copies: _Copies, taken: _Moment) -> Manifest:
    copies.keep_only(taken.references)
    parts = [*taken.parts, *copies.parts]
    return Manifest(
        format=FORMAT,
        version=VERSION,
        revision=taken.revision,
        moment=taken.at,
        tables=taken.tables,
        sequences=taken.sequences,
        parts=archive.add_lines(PARTS, map(part_line, parts)),
        n_parts=len(parts),
        n_bytes=sum(part.bytes for part in parts),
        missing=tuple(one.name for one in copies.lacking(taken.references)),
        damaged=copies.damaged,
    )
