"""What retrieval needs of the outside: rows in a database and immutable folders. The server hands both in."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection


class Store(Protocol):
    """A migrated SQL database that holds the tables of `retrieval.tables`."""

    def read(self) -> AbstractContextManager[Connection]:
        """A connection whose statements all see the same moment."""
        ...

    def look(self) -> AbstractContextManager[Connection]:
        """A connection for one SELECT, which is cheaper than `read`."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """One durable transaction: committed at the end, rolled back on an exception."""
        ...


class Blobs(Protocol):
    """Folders that appear whole or not at all, under keys such as `files/<digest>`."""

    def staging(self) -> AbstractContextManager[Path]:
        """A fresh private folder to fill and then commit; what was not committed is removed at the end."""
        ...

    def commit(self, folder: Path, key: str) -> Path:
        """Move a folder durably to its key; when the key exists already, what is there wins."""
        ...

    def path(self, key: str) -> Path:
        """The folder of a key, which may take its time to come; raises FileNotFoundError."""
        ...

    def files(self, keys: Iterable[str]) -> dict[str, frozenset[str]]:
        """The names of the files of those keys that there are, without reading them."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """Every key that starts with the prefix."""
        ...

    def remove(self, key: str) -> None:
        """Take a folder away; nothing happens when there is none."""
        ...
