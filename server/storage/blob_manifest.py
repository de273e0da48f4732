"""What makes a blob in an object store exist: one small object, written last, that says which files belong to it."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1

_UPLOAD = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestUnreadable(ValueError):
    """No manifest that this version can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One file of a blob."""

    n_bytes: int
    sha256: str  # hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A blob's files by name. `upload` is given out once, so that two uploads never touch each other's objects."""

    key: str
    upload: str
    files: Mapping[str, Stored]  # by path below the blob's folder

    @classmethod
    def of(cls, folder: Path, key: str) -> Manifest:
        """What a folder holds, every file read once. Raises ValueError when it holds no file directly."""
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                files[path.relative_to(folder).as_posix()] = Stored(n_bytes=path.stat().st_size, sha256=digest)
        if not any("/" not in name for name in files):
            raise ValueError(f"{folder} holds no file; a blob needs at least one")
        return cls(key=key, upload=secrets.token_hex(16), files=files)

    @classmethod
    def read(cls, content: bytes) -> Manifest:
        """What `content` wrote. Raises ManifestUnreadable, also for one whose names lead out of a folder."""
        try:
            told = json.loads(content)
            if told["format"] != FORMAT:
                raise ManifestUnreadable(f"format {told['format']!r} is of another version of manyhats")
            files = {name: _stored(name, file) for name, file in told["files"].items()}
            if not files or not _UPLOAD.fullmatch(told["upload"]):
                raise ManifestUnreadable("no files, or no upload")
            return cls(key=str(told["key"]), upload=told["upload"], files=files)
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ManifestUnreadable(f"no manifest of a blob: {error!r}") from error

    @property
    def content(self) -> bytes:
        """The object's bytes."""
        files = {name: {"bytes": file.n_bytes, "sha256": file.sha256} for name, file in self.files.items()}
        told = {"format": FORMAT, "key": self.key, "upload": self.upload, "files": files}
        return json.dumps(told, separators=(",", ":")).encode()

    @property
    def n_bytes(self) -> int:
        """Of all files together."""
        return sum(file.n_bytes for file in self.files.values())

    def is_at(self, folder: Path) -> bool:
        """Whether the folder holds these very files; reads them."""
        return all(_is(folder / name, stored) for name, stored in self.files.items())


def _stored(name: str, file: Mapping[str, Any]) -> Stored:
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ManifestUnreadable(f"{name!r} is no path below a folder")
    if not isinstance(file["bytes"], int) or not _SHA256.fullmatch(file["sha256"]):
        raise ManifestUnreadable(f"{name!r} has no size or digest")
    return Stored(n_bytes=file["bytes"], sha256=file["sha256"])


def _is(path: Path, stored: Stored) -> bool:
    if path.stat().st_size != stored.n_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == stored.sha256
