"""Whether a backup is what its manifest says: every file and row there and unchanged, nothing referred to lost.

Rows and files are read once, and never all at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import IO

from server.storage.backup import rows, schema
from server.storage.backup.archive import Part, Reader, blocks
from server.storage.backup.manifest import MANIFEST, PARTS, Manifest, read_manifest, read_parts, table_name
from server.storage.backup.references import COLUMNS, Reference, referred
from server.storage.backup.rows import Counter
from server.storage.errors import BackupInvalid


def check(archive: Reader, *, say: Callable[[str], None] = lambda _: None) -> Manifest:
    """Read all of a backup. Raises BackupInvalid, with the file that is wrong."""
    manifest = manifest_of(archive)
    parts = parts_of(archive, manifest)
    say(f"reading {len(parts)} files of {manifest.n_bytes / 1e6:.1f} MB")
    for table in manifest.tables:
        for _ in lines(archive, manifest, parts, table):
            pass
    for part in parts.values():
        if not part.name.startswith("tables/"):
            for _ in verified(archive.open(part.name), part):
                pass
    check_references(archive, manifest, parts)
    return manifest


def manifest_of(archive: Reader) -> Manifest:
    """What the backup says it is. Raises BackupInvalid, also for tables that this manyhats does not know yet."""
    with archive.open(MANIFEST) as file:
        manifest = read_manifest(file.read())
    if manifest.revision not in schema.known_revisions():
        raise BackupInvalid(
            f"the backup was made by a newer manyhats ({manifest.version}, tables {manifest.revision!r}); "
            "restore it with that version or a later one"
        )
    return manifest


def parts_of(archive: Reader, manifest: Manifest) -> dict[str, Part]:
    """Every file of the backup by its name, as listed; the list itself is checked."""
    with archive.open(PARTS) as file:
        for _ in verified(file, manifest.parts):
            pass
    with archive.open(PARTS) as file:
        parts = {part.name: part for part in read_parts(file)}
    if len(parts) != manifest.n_parts or sum(part.bytes for part in parts.values()) != manifest.n_bytes:
        raise BackupInvalid(f"the backup lists {len(parts)} files, and its manifest says {manifest.n_parts}")
    if lacking := sorted(name for name in manifest.tables if table_name(name) not in parts):
        raise BackupInvalid(f"the backup has no rows of {lacking}")
    return parts


def verified(file: IO[bytes], part: Part) -> Iterator[bytes]:
    """A file's blocks; the last comes before BackupInvalid says that they were not what they should be."""
    sha256, n_bytes = hashlib.sha256(), 0
    with file:
        for block in blocks(file):
            sha256.update(block)
            n_bytes += len(block)
            yield block
    if n_bytes != part.bytes or sha256.hexdigest() != part.sha256:
        raise BackupInvalid(f"{part.name} of the backup is damaged: {n_bytes} bytes that are not those of its digest")


def lines(archive: Reader, manifest: Manifest, parts: dict[str, Part], table: str) -> Iterator[bytes]:
    """The header of a table and then its rows, checked as `verified` does."""
    part, counter = parts[table_name(table)], Counter()
    sha256 = hashlib.sha256()
    with archive.open(part.name) as file:
        for number, line in enumerate(file):
            sha256.update(line)
            if number:
                counter.add(line.removesuffix(b"\n"))
            yield line.removesuffix(b"\n")
    if sha256.hexdigest() != part.sha256:
        raise BackupInvalid(f"{part.name} of the backup is damaged: its bytes are not those of its digest")
    if counter.counted() != manifest.tables[table]:
        raise BackupInvalid(f"{part.name} of the backup has {counter.counted().rows} rows, not those of its manifest")


def check_references(archive: Reader, manifest: Manifest, parts: dict[str, Part]) -> None:
    """That every folder which rows refer to is in the backup. Raises BackupInvalid."""
    there = {part.name.rpartition("/")[0] for part in parts.values()} | set(manifest.missing)
    for table in manifest.tables.keys() & COLUMNS.keys():
        for one in _referred(archive, table):
            if one.name not in there:
                raise BackupInvalid(f"the backup lacks {one.name}, which its table {table!r} refers to")


def _referred(archive: Reader, table: str) -> Iterator[Reference]:
    with archive.open(table_name(table)) as file:
        names = rows.names_of(next(file, b""))
        yield from referred(table, (rows.named(names, line) for line in file))
