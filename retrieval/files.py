"""Uploaded files: a row each, over bytes that are stored once.

    files = Files(database, blobs, max_bytes=512 * 1024**2)
    with files.staging() as folder:
        (folder / "content").write_bytes(b"...")
        file = files.add(folder, filename="handbook.pdf", purpose="assistants", owner="ana")

A row comes first and is not complete, then the bytes, then the row is: whenever the process dies, a file that was
acknowledged is there with its bytes, and what was not is swept by `retrieval.upkeep`.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select, update

from retrieval import contents, fields, tables
from retrieval.errors import FileInvalid, FileNotFound, FileTooLarge
from retrieval.file import PURPOSES, RESULTS, File
from retrieval.generations import take_file_out
from retrieval.pages import Order, Page, Paging, rows_of
from retrieval.places import Places
from retrieval.ports import Blobs, Store

logger = logging.getLogger(__name__)

LONGEST_FILENAME = 512

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_columns = tables.files.c
_SHOWN = [
    _columns[name] for name in ("id", "owner", "filename", "purpose", "bytes", "digest", "created_at", "expires_at")
]


class Files:
    """The table of files. An owner sees its own, None sees all; others, and expired ones, are not found."""

    def __init__(
        self,
        database: Store,
        blobs: Blobs,
        *,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
        on_write: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """max_bytes: of one file. on_write: called inside every transaction that changed something."""
        self._database = database
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._clock = clock
        self._on_write = on_write
        self._places = Places()

    def staging(self) -> AbstractContextManager[Path]:
        """A private folder, for exactly one file called `content`; what was not added is removed at the end."""
        return self._blobs.staging()

    def add(
        self,
        folder: Path,
        *,
        filename: str,
        purpose: str,
        owner: str,
        digest: str | None = None,
        expires_seconds: int | None = None,
        made_here: bool = False,
    ) -> File:
        """Keep the staged bytes under a name; when this returns they are on the disk for good.

        digest: SHA-256 of the bytes in hex, where the uploader has it already. made_here: by the server and not by a
        client, so that the purpose may be RESULTS. Raises FileInvalid or FileTooLarge.
        """
        filename = _checked_name(filename)
        if purpose not in PURPOSES and not (made_here and purpose == RESULTS):
            raise FileInvalid(f"no purpose {purpose[:64]!r}; it is one of {list(PURPOSES)}", param="purpose")
        if expires_seconds is not None:
            fields.check_seconds(expires_seconds)
        staged = folder / contents.CONTENT
        n_bytes = staged.stat().st_size
        if n_bytes > self._max_bytes:
            raise FileTooLarge(f"{filename!r} has {n_bytes} bytes; a file may have {self._max_bytes}")
        if n_bytes == 0:
            raise FileInvalid(f"{filename!r} is empty", param="file")
        now = self._clock()
        file = File(
            id=f"file-{secrets.token_hex(12)}",
            owner=owner,
            filename=filename,
            purpose=purpose,
            bytes=n_bytes,
            digest=digest or _digest(staged),
            created_at=now,
            expires_at=None if expires_seconds is None else now + expires_seconds,
        )
        row = {column.name: getattr(file, column.name) for column in _SHOWN}
        with self._database.write() as connection:
            contents.claim(connection, file.digest, n_bytes)
            connection.execute(insert(tables.files).values(**row, complete=False))
        try:
            contents.keep(self._blobs, folder, file.digest, n_bytes)
            self._complete(file)
        except BaseException:
            with suppress(Exception):  # what remains is swept
                self._give_up(file)
            raise
        return file

    def get(self, file_id: str, owner: str | None) -> File:
        """The file. Raises FileNotFound."""
        with self._database.read() as connection:
            return self._find(connection, file_id, owner)

    def list(
        self,
        owner: str | None,
        *,
        purpose: str | None = None,
        limit: int = 10_000,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
    ) -> Page[File]:
        """A page of the files that the owner sees, by when they were uploaded. Raises CursorUnknown."""
        key = (_columns.created_at, _columns.id)
        among = select(*key).where(*self._seen(owner))
        query = select(*_SHOWN).where(*self._seen(owner))
        if purpose is not None:
            query = query.where(_columns.purpose == purpose)
        paging = Paging(limit=limit, order=order, after=after, before=before)
        with self._database.read() as connection:
            rows, has_more = rows_of(
                connection,
                query,
                key,
                among=among,
                identity=_columns.id,
                paging=paging,
                places=self._places,
                reader=owner,
            )
        return Page(items=tuple(File(**row._mapping) for row in rows), has_more=has_more)

    def path(self, file: File) -> Path:
        """Where the file's bytes lie, not to be written to. Raises FileNotFound when they were taken away."""
        return self.path_of(file.digest)

    def path_of(self, digest: str) -> Path:
        """The same, of the bytes with that SHA-256."""
        return contents.path_of(self._blobs, digest)

    def delete(self, file_id: str, owner: str | None) -> File:
        """Remove a file from here and from every store, in one transaction; returns what it was. FileNotFound."""
        with self._database.write() as connection:
            file = self._find(connection, file_id, owner, lock=True)
            self._remove(connection, file.id)
        self._drop_unused(file.digest)
        return file

    def purge_expired(self) -> int:
        """Delete the files whose time is over, from every store too; returns how many."""
        over = select(_columns.id, _columns.digest).where(_columns.expires_at <= self._clock())
        with self._database.read() as connection:
            found = connection.execute(over).all()
        for file_id, _ in found:
            with self._database.write() as connection:
                connection.execute(select(_columns.id).where(_columns.id == file_id).with_for_update())
                self._remove(connection, file_id)
        for digest in {digest for _, digest in found}:
            if not self._drop_unused(digest):
                break  # a store that is away fails slowly, and it would for each
        return len(found)

    def _complete(self, file: File) -> None:
        with self._database.write() as connection:
            done = update(tables.files).where(_columns.id == file.id).values(complete=True)
            if connection.execute(done).rowcount == 0:
                raise FileNotFound(f"the upload of {file.filename!r} took too long and was given up; send it again")
            self._on_write(connection)

    def _give_up(self, file: File) -> None:
        with self._database.write() as connection:
            connection.execute(delete(tables.files).where(_columns.id == file.id, ~_columns.complete))
        contents.drop_unused(self._database, self._blobs, file.digest)

    def _drop_unused(self, digest: str) -> bool:
        """Whether that went well. The file is gone already, whatever becomes of its bytes: what stays is swept."""
        try:
            contents.drop_unused(self._database, self._blobs, digest)
        except Exception:
            logger.exception("the bytes of a deleted file are left to be swept (SHA-256 %s)", digest)
            return False
        return True

    def _find(self, connection: Connection, file_id: str, owner: str | None, *, lock: bool = False) -> File:
        query = select(*_SHOWN).where(_columns.id == file_id, *self._seen(owner))
        row = connection.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            raise FileNotFound(f"no file has the id {file_id[:96]!r}; it was never there, or deleted, or has expired")
        return File(**row)

    def _seen(self, owner: str | None) -> tuple[ColumnElement[bool], ...]:
        there = (_columns.complete, or_(_columns.expires_at.is_(None), _columns.expires_at > self._clock()))
        return there if owner is None else (*there, _columns.owner == owner)

    def _remove(self, connection: Connection, file_id: str) -> None:
        take_file_out(connection, file_id, self._clock())
        connection.execute(delete(tables.files).where(_columns.id == file_id))
        self._on_write(connection)


def _checked_name(filename: str) -> str:
    """The name as it is shown: a control character, a line break above all, could pose as something else."""
    name = _CONTROL.sub(" ", filename).strip()
    if not name:
        raise FileInvalid("the file has no name", param="file")
    if len(name) > LONGEST_FILENAME:
        raise FileInvalid(f"the file's name has {len(name)} characters; it may have {LONGEST_FILENAME}", param="file")
    if not fields.is_encodable(name):
        raise FileInvalid("the file's name holds a character that no text has", param="file")
    return name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
