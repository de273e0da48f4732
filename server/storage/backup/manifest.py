"""What a backup says of itself, and the list of its files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import IO

from server.storage.backup.archive import Part
from server.storage.backup.rows import Counted
from server.storage.errors import BackupInvalid

MANIFEST = "manifest.json"
PARTS = "parts.jsonl"
FORMAT = 1

_NAME = re.compile(r"(tables|blobs|training|data)(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Of one backup."""

    format: int
    version: str  # of the manyhats that made it
    revision: str  # of the tables
    moment: float  # that all rows are of; Unix seconds
    tables: Mapping[str, Counted]
    sequences: Mapping[str, int]  # the last number given out, by table
    parts: Part  # the list of all other files
    n_parts: int
    n_bytes: int  # of those
    missing: tuple[str, ...]  # folders that rows refer to and that the installation had lost
    damaged: tuple[str, ...]  # folders whose content was not what its digest says; they are here as they were

    def as_json(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


def read_manifest(data: bytes) -> Manifest:
    """Raises BackupInvalid for what is no manifest, or of a format that only a newer manyhats knows."""
    try:
        raw = json.loads(data)
        if raw["format"] != FORMAT:
            raise BackupInvalid(
                f"the backup has format {raw['format']!r}, made by manyhats {raw.get('version')!r}; "
                f"this one reads format {FORMAT}: restore with that version"
            )
        known = {field.name: raw[field.name] for field in fields(Manifest)}
        known |= {
            "tables": {name: Counted(**counted) for name, counted in raw["tables"].items()},
            "parts": Part(**raw["parts"]),
            "missing": tuple(raw["missing"]),
            "damaged": tuple(raw["damaged"]),
        }
        return Manifest(**known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupInvalid(f"the backup's {MANIFEST} cannot be read: {error!r}") from error


def part_line(part: Part) -> bytes:
    """A part as a line of the list."""
    return json.dumps(asdict(part), separators=(",", ":")).encode()


def read_parts(file: IO[bytes]) -> Iterator[Part]:
    """Every part of the list. Raises BackupInvalid for a line that names none, or one outside of a backup."""
    for line in file:
        try:
            part = Part(**json.loads(line))
            good = _NAME.fullmatch(part.name) and _SHA256.fullmatch(part.sha256) and part.bytes >= 0
        except (ValueError, TypeError) as error:
            raise BackupInvalid(f"a line of the backup's {PARTS} cannot be read: {line[:200]!r}") from error
        if not good:
            raise BackupInvalid(f"a line of the backup's {PARTS} names no file of a backup: {line[:200]!r}")
        yield part


def table_name(table: str) -> str:
    """The part that a table's rows are in."""
    return f"tables/{table}.jsonl"
