"""What every store of blobs does: one folder on this machine, or one that machines share.

A blob is a folder of files that never changes, under a key, complete or not there at all. A key is a path of plain
names, such as `adapters/<digest>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
STAGING = "staging"  # folders being filled, each locked by the process that fills it
TRASH = "trash"  # folders being deleted; anyone may go on with it


class BlobStore(Protocol):
    """Blobs by key. Safe for any number of threads and processes.

    A key that is none is a ValueError. A store that other machines share may raise BlobsUnavailable anywhere.
    """

    def staging(self) -> AbstractContextManager[Path]:
        """A fresh private folder to fill and then `commit`; what was not committed is removed at the end."""
        ...

    def prepare(self, folder: Path, key: str) -> None:
        """Do now what takes long of a `commit` that may follow, so that nobody who holds a lock waits for it."""
        ...

    def commit(self, folder: Path, key: str) -> Path:
        """Make a staged folder, or one in it, the blob of that key, for good; returns where its files lie.

        When the key exists already, what is there stays and is returned.
        """
        ...

    def path(self, key: str) -> Path:
        """Where a blob's files lie on this machine, not to be written to. Raises FileNotFoundError."""
        ...

    def files(self, keys: Iterable[str]) -> dict[str, frozenset[str]]:
        """The names of the files of those blobs that there are; brings nothing to this machine."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """Every key that begins with the prefix, sorted."""
        ...

    def remove(self, key: str) -> None:
        """Delete a blob: from one moment to the next it is not there. One that is not there already is no error."""
        ...

    def sweep(self) -> None:
        """Remove what killed processes have left on this machine."""
        ...

    def tidy(self) -> None:
        """Remove what they have left in the shared store, and copies here of what is gone there; takes its time."""
        ...


def check_key(key: str) -> None:
    """Raises ValueError for what is no key of a blob."""
    if not KEY.fullmatch(key) or key.split("/")[0] in (STAGING, TRASH):
        raise ValueError(f"{key!r} is not a key; one is a path of plain names, such as 'adapters/0123abcd'")
