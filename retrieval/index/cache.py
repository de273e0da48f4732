"""An index on the disk: a copy of what the database can give again, so it may be missing, stale or damaged at any time.

    dense/manifest.json      which folder is the present one, of which generation, and each file's checksum
    dense/9f2c61d0/…         the files, which nobody changes any more

A new folder is filled, and then the manifest is replaced in one step, so whoever reads finds the old or the new one.
Nothing is flushed: files that a power cut has torn have other checksums.
"""

from __future__ import annotations

import json
import shutil
import uuid
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT = 1  # raised whenever the files mean something else
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a cache was made of. One of other facts is not used."""

    generation: int
    fingerprint: str | None  # of the embedder, for vectors
    kind: str


class Cache:
    """The folder of one index's cache. Every method is safe whatever lies there; one writer at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> tuple[Path, Facts] | None:
        """The present files, all of them as they were written, and their facts; None when there are none such."""
        try:
            manifest = json.loads((self.folder / "manifest.json").read_bytes())
            if manifest["format"] != FORMAT:
                return None
            files = self.folder / _name(manifest["folder"])
            if any(_checksum(files / _name(name)) != expected for name, expected in manifest["files"].items()):
                return None
            if {path.name for path in files.iterdir()} != manifest["files"].keys():
                return None
            return files, Facts(**manifest["facts"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # whatever stands there, it is no manifest
            return None

    def save(self, facts: Facts, fill: Callable[[Path], None]) -> Path:
        """Have an empty folder filled, and make it the present one. Raises OSError, and then the old one stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files = self.folder / uuid.uuid4().hex[:16]
        files.mkdir()
        try:
            fill(files)
            checksums = {path.name: _checksum(path) for path in sorted(files.iterdir())}
            manifest = {"format": FORMAT, "folder": files.name, "facts": asdict(facts), "files": checksums}
            written = self.folder / "manifest.json.new"
            written.write_text(json.dumps(manifest))
            written.replace(self.folder / "manifest.json")
        except BaseException:
            shutil.rmtree(files, ignore_errors=True)
            raise
        self._remove_others(files)
        return files

    def _remove_others(self, present: Path) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and path != present:
                shutil.rmtree(path, ignore_errors=True)


def _name(value: Any) -> str:
    """A plain name within a folder, because a manifest may say anything."""
    if not isinstance(value, str) or Path(value).name != value:
        raise ValueError(f"{value!r} is no file's name")
    return value


def _checksum(path: Path) -> list[int]:
    """Length and CRC-32, which find accidents; who may write here may do worse than deceive them."""
    length = checksum = 0
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            length += len(piece)
            checksum = zlib.crc32(piece, checksum)
    return [length, checksum]
