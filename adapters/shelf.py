"""Where the registry keeps bytes: one folder per digest, shared by every name that has a version with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from adapters.adapter import Version
from adapters.errors import AdapterNotFound
from adapters.ledger import GONE
from adapters.ports import Blobs

FILES = ("adapter_config.json", "adapter_model.safetensors")

_PREFIX = "adapters/"


class Shelf:
    """The adapters' part of the blobs."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def flush(self, folder: Path) -> None:
        """Bring the files to the disk now, so that the transaction which moves them need not wait for it."""
        for name in FILES:
            with (folder / name).open("rb") as file:
                os.fsync(file.fileno())

    def put(self, folder: Path, digest: str) -> None:
        """Move the folder to its place; what is there already stays, unless it has lost a file."""
        if self.holds(digest):
            return
        self._blobs.remove(_key(digest))
        self._blobs.commit(folder, _key(digest))

    def holds(self, digest: str) -> bool:
        """Whether both files are there."""
        try:
            folder = self._blobs.path(_key(digest))
        except FileNotFoundError:
            return False
        return all((folder / name).is_file() for name in FILES)

    def path(self, version: Version) -> Path:
        """The folder with both files; raises AdapterNotFound."""
        if not self.holds(version.digest):
            raise AdapterNotFound(f"version {version.id} cannot be served: {GONE}")
        return self._blobs.path(_key(version.digest))

    def digests(self) -> Iterator[str]:
        """Every digest that has a folder."""
        return (key.removeprefix(_PREFIX) for key in self._blobs.keys(_PREFIX))

    def remove(self, digest: str) -> None:
        """Take a folder away that no row points to."""
        self._blobs.remove(_key(digest))

    def sweep(self) -> None:
        """Remove what killed processes left half-done."""
        self._blobs.sweep()


def _key(digest: str) -> str:
    return f"{_PREFIX}{digest}"
