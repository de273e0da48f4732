"""The bytes of files: each once, under `files/<digest>`, for as long as a file has them.

The row of a content is what an upload and a removal of the same bytes take turns on: an upload writes it in the
transaction that adds the file, a removal locks it, looks whether any file is left, and only then deletes the bytes.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from retrieval import tables
from retrieval.errors import FileNotFound
from retrieval.ports import Blobs, Store

CONTENT = "content"  # the one file of a blob
PREFIX = "files/"


def path_of(blobs: Blobs, digest: str) -> Path:
    """Where the bytes lie. Raises FileNotFound when somebody took them from the disk."""
    try:
        return blobs.path(PREFIX + digest) / CONTENT
    except FileNotFoundError:
        raise FileNotFound(
            f"the bytes of this file are gone from the disk (SHA-256 {digest}); upload it again"
        ) from None


def claim(connection: Connection, digest: str, n_bytes: int) -> None:
    """Hold the content until the transaction ends; from then on a file's row does."""
    upsert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = upsert(tables.contents).values(digest=digest, bytes=n_bytes)
    columns = tables.contents.c
    connection.execute(row.on_conflict_do_update(index_elements=[columns.digest], set_={"bytes": columns.bytes}))


def keep(blobs: Blobs, folder: Path, digest: str, n_bytes: int) -> None:
    """Bring staged bytes to their place, on the disk for good; a damaged copy that lies there gives way."""
    lying = blobs.commit(folder, PREFIX + digest) / CONTENT
    if not lying.is_file() or lying.stat().st_size != n_bytes:
        blobs.remove(PREFIX + digest)
        blobs.commit(folder, PREFIX + digest)


def drop_unused(database: Store, blobs: Blobs, digest: str) -> bool:
    """Delete the bytes unless a file has them; whether they are gone. A kill in between leaves the row, to be swept."""
    blobs.files([PREFIX + digest])  # a store that is away is found out here: in the transaction all writers wait for it
    with database.write() as connection:
        claim(connection, digest, 0)  # a row that is not there cannot be locked, and an upload may be making it
        if connection.execute(select(tables.files.c.id).where(tables.files.c.digest == digest).limit(1)).first():
            return False
        blobs.remove(PREFIX + digest)
        connection.execute(delete(tables.contents).where(tables.contents.c.digest == digest))
    return True


def unused(database: Store, blobs: Blobs) -> list[str]:
    """Digests of rows that no file refers to, and of bytes that have no row."""
    there = {key.removeprefix(PREFIX) for key in blobs.keys(PREFIX)}
    with database.read() as connection:
        used = set(connection.execute(select(tables.files.c.digest)).scalars())
        known = set(connection.execute(select(tables.contents.c.digest)).scalars())
    return sorted((there | known) - used)
