"""Where the registry keeps bytes: one folder per digest, shared by every name that has a version with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

    def prepare(self, folder: Path, digest: str) -> None:
        """Do now what takes long of `put`, so that the transaction which it is part of need not wait for it."""
        self._blobs.prepare(folder, _key(digest))

    def put(self, folder: Path, digest: str) -> None:
        """Move the folder to its place; what is there already stays, unless it has lost a file."""
        key = _key(digest)
        there = self._blobs.files([key]).get(key)
        if there is not None and not there.issuperset(FILES):
            self._blobs.remove(key)
        self._blobs.commit(folder, key)

    def holds(self, digest: str) -> bool:
        """Whether both files are there."""
        return digest in self.holding([digest])

    def holding(self, digests: Iterable[str]) -> set[str]:
        """Those of the digests of which both files are there."""
        found = self._blobs.files([_key(digest) for digest in digests])
        return {key.removeprefix(_PREFIX) for key, names in found.items() if names.issuperset(FILES)}

    def path(self, version: Version) -> Path:
        """The folder with both files; raises AdapterNotFound."""
        try:
            folder = self._blobs.path(_key(version.digest))
        except FileNotFoundError:
            folder = None
        if folder is None or not all((folder / name).is_file() for name in FILES):
            raise AdapterNotFound(f"version {version.id} cannot be served: {GONE}")
        return folder

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
