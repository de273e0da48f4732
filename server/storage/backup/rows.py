"""Rows as lines that both databases give and take alike: what backups consist of, and what a move compares.

A line is a JSON array of the values, in the order of their columns' names. Bytes are base64, JSON columns are JSON, and
a NUL in a text is U+FFFD, so that a backup fits into either database.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError

from server.storage.errors import BackupInvalid

READ_ROWS = 50  # read at once: a stored response may have megabytes
WRITE_ROWS = 1_000  # written at once, or fewer of more than
WRITE_BYTES = 4 * 1024**2

_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a table holds, whatever the order in which a database gives it."""

    rows: int
    digest: str  # 64 hex digits: the sum of the lines' SHA-256, modulo 2**256


class Counter:
    """Counts lines as they go by."""

    def __init__(self) -> None:
        self._rows = 0
        self._sum = 0

    def add(self, line: bytes) -> None:
        self._rows += 1
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(line).digest())) % _MODULUS

    def counted(self) -> Counted:
        return Counted(rows=self._rows, digest=f"{self._sum:064x}")


def columns_of(table: sa.Table) -> list[sa.Column[Any]]:
    """In the order of their names, which is the same in every database."""
    return sorted(table.columns, key=lambda column: column.name)


def key_of(table: sa.Table) -> sa.Column[Any]:
    """The column of the primary key; none of our tables has one of several."""
    (column,) = table.primary_key.columns
    return column


def read(connection: sa.Connection, table: sa.Table, *, after: Any = None) -> Iterator[bytes]:
    """Every row as a line, by primary key. after: only rows whose key comes after this, where the order is binary."""
    key = key_of(table)
    query = sa.select(*columns_of(table)).order_by(key)
    if after is not None:
        query = query.where(key > after)
    options = {"stream_results": True, "max_row_buffer": READ_ROWS}
    for rows in connection.execute(query, execution_options=options).partitions(READ_ROWS):
        for row in rows:
            yield encode(row)


def count(connection: sa.Connection, table: sa.Table) -> Counted:
    """What the table holds now."""
    counter = Counter()
    for line in read(connection, table):
        counter.add(line)
    return counter.counted()


def encode(row: Iterable[Any]) -> bytes:
    """A row, in the order of `columns_of`, as its line without the line's end."""
    return json.dumps([_value(value) for value in row], separators=(",", ":")).encode()


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, str) and "\0" in value:  # SQLite has texts with it; PostgreSQL does not, but in JSON
        return value.replace("\0", "\ufffd")
    return value


def header(table: sa.Table) -> bytes:
    """The line above the rows: the columns' names."""
    return encode(column.name for column in columns_of(table))


def names_of(line: bytes) -> list[str]:
    """The columns that a header tells. Raises BackupInvalid."""
    try:
        names = json.loads(line)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BackupInvalid(f"a table begins without the names of its columns: {line[:80]!r}")
    return names


def named(names: Sequence[str], line: bytes) -> dict[str, Any]:
    """A line's values by their columns' names; bytes stay base64. Raises BackupInvalid."""
    try:
        values = json.loads(line)
    except ValueError as error:
        raise BackupInvalid(f"a line of a table is no JSON: {line[:80]!r}") from error
    if not isinstance(values, list) or len(values) != len(names):
        raise BackupInvalid(f"a line of a table has not the {len(names)} values of its columns: {line[:80]!r}")
    return dict(zip(names, values, strict=True))


def write(connection: sa.Connection, table: sa.Table, lines: Iterable[bytes]) -> None:
    """Insert the rows of these lines. Raises BackupInvalid for what the database refuses."""
    for batch in batches(lines):
        insert(connection, table, batch)


def insert(connection: sa.Connection, table: sa.Table, lines: Sequence[bytes]) -> None:
    """Insert some rows in one statement. Raises as `write`."""
    names = [column.name for column in columns_of(table)]
    binary = [column.name for column in columns_of(table) if isinstance(column.type, sa.LargeBinary)]
    rows = [named(names, line) for line in lines]
    for row in rows:
        row |= {name: base64.b64decode(row[name]) for name in binary if row[name] is not None}
    try:
        connection.execute(table.insert(), rows)
    except (DataError, IntegrityError) as error:  # PostgreSQL holds lengths, where SQLite does not
        raise BackupInvalid(f"the database does not take a row of {table.name!r}: {error.orig}") from error


def batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """As many lines as are written at once."""
    batch: list[bytes] = []
    n_bytes = 0
    for line in lines:
        batch.append(line)
        n_bytes += len(line)
        if len(batch) >= WRITE_ROWS or n_bytes >= WRITE_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch
