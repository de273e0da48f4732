"""What the registry needs of the outside: rows in a database and immutable folders. The server hands both in."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection


class Store(Protocol):
    """A migrated SQL database that holds the tables of `adapters.tables`."""

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that sees what was committed before it began."""
        ...

    def look(self) -> AbstractContextManager[Connection]:
        """A connection for one SELECT, which is cheaper than `read`."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """One durable transaction: committed at the end, rolled back on an exception."""
        ...


class Blobs(Protocol):
    """Folders that appear whole or not at all, under keys such as `adapters/<digest>`."""

    def prepare(self, folder: Path, key: str) -> None:
        """Do now what takes long of a `commit` that may follow."""
        ...

    def commit(self, folder: Path, key: str) -> Path:
        """Move a folder durably to its key; when the key exists already, what is there wins."""
        ...

    def path(self, key: str) -> Path:
        """The folder of a key; raises FileNotFoundError."""
        ...

    def files(self, keys: Iterable[str]) -> dict[str, frozenset[str]]:
        """The names of the files of those keys that there are, without reading them."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Every key that starts with the prefix."""
        ...

    def remove(self, key: str) -> None:
        """Take a folder away; nothing happens when there is none."""
        ...

    def sweep(self) -> None:
        """Remove what killed processes left half-done."""
        ...
