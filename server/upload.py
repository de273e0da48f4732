"""A file that comes in as a form: straight from the socket to its place on the disk, hashed on the way.

Nothing of it is ever held in memory but the piece that has just arrived, and no other file is written first.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from retrieval.contents import CONTENT
from retrieval.errors import FileTooLarge
from server.errors import ApiError
from server.threads import run_in

PIECE_BYTES = 1024 * 1024  # gathered before a thread hashes and writes them
FIELD_BYTES = 4096
ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}  # what browsers and httpx cannot write in a quoted name
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What a form brought: the fields, and the file as `<folder>/content`."""

    filename: str  # without folders; of any characters, and of any length up to a header's
    digest: str  # SHA-256 of the bytes, hex
    fields: dict[str, str]


async def receive(request: Request, folder: Path, pool: Executor, *, fields: set[str], max_bytes: int) -> Uploaded:
    """Write the form's `file` into the folder and return what came with it, in the fields that are allowed.

    Raises ApiError 400 for a form that is none of this kind and 507 when the disk is full, FileTooLarge as soon as the
    file is too large, and Starlette's ClientDisconnect.
    """
    form = _Form(folder / CONTENT, boundary=_boundary(request), allowed=fields, max_bytes=max_bytes)
    try:
        gathered = bytearray()
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= PIECE_BYTES:
                await run_in(pool, form.write, bytes(gathered))
                gathered.clear()
        await run_in(pool, form.write, bytes(gathered))
        return await run_in(pool, form.end)
    finally:
        await run_in(pool, form.close)


class _Form:
    """Takes the body in piece by piece; one thread at a time."""

    def __init__(self, path: Path, *, boundary: bytes, allowed: set[str], max_bytes: int) -> None:
        self._path = path
        self._allowed = allowed
        self._max_bytes = max_bytes
        self._fields: dict[str, bytearray] = {}
        self._filename: str | None = None
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._n_bytes = 0
        self._part: str = ""  # the field that is being read
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._ended = False
        self._parser = _parser(boundary, self)

    def write(self, piece: bytes) -> None:
        """Raises ApiError or FileTooLarge; the form is of no use then."""
        try:
            with told_when_full():
                self._parser.write(piece)
        except FormParserError as error:
            raise ApiError(400, f"the body is not a form: {error}", code="invalid_form") from None

    def end(self) -> Uploaded:
        """What came. Raises ApiError 400 when something is missing."""
        if not self._ended:
            raise ApiError(400, "the body ends in the middle of the form; send it again", code="invalid_form")
        if self._filename is None:
            raise ApiError(
                400, "send the bytes as form field `file`, with a file name: curl -F file=@handbook.pdf", param="file"
            )
        fields = {name: _text(value, name) for name, value in self._fields.items()}
        return Uploaded(filename=self._filename, digest=self._hash.hexdigest(), fields=fields)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part = options.get(b"name", b"").decode(errors="replace")
        is_file = b"filename" in options
        if self._part != "file" and self._part not in self._allowed:
            known = ", ".join(sorted({"file", *self._allowed}))
            told = f"{self._part[:64]}: unknown field" if self._part else "a part has no name"
            raise ApiError(400, f"{told}; the form has {known}", param=self._part[:64] or None, code="invalid_value")
        if is_file != (self._part == "file"):
            message = "`file` must come with a file name" if self._part == "file" else "only `file` may be a file"
            raise ApiError(400, f"{message}: curl -F file=@handbook.pdf", param=self._part, code="invalid_value")
        if self._part in self._fields or (is_file and self._filename is not None):
            raise ApiError(400, f"{self._part} is there twice", param=self._part, code="invalid_value")
        if is_file:
            self._filename = bare_name(options[b"filename"])
            self._file = self._path.open("xb")
        else:
            self._fields[self._part] = bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        if self._part == "file":
            self._take(piece)
            return
        field = self._fields[self._part]
        if len(field) + len(piece) > FIELD_BYTES:
            raise ApiError(400, f"{self._part} is too long", param=self._part, code="invalid_value")
        field += piece

    def on_part_end(self) -> None:
        if self._part == "file":
            self.close()

    def on_end(self) -> None:
        self._ended = True

    def _take(self, piece: memoryview) -> None:
        self._n_bytes += len(piece)
        if self._n_bytes > self._max_bytes:
            raise FileTooLarge(
                f"the file has more than {self._max_bytes:,} bytes; send it in parts, or raise MANYHATS_MAX_FILE_BYTES"
            )
        assert self._file is not None, "data of a part that was never begun"
        self._hash.update(piece)
        self._file.write(piece)


@contextmanager
def told_when_full() -> Iterator[None]:
    """A full disk is no fault of the server's, and whoever reads the answer can do something about it: ApiError 507."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        message = "the server's disk is full and nothing was stored; make room, or delete files"
        raise ApiError(507, message, type="server_error", code="disk_full") from error


def bare_name(raw: bytes) -> str:
    """A file's name as it was meant, without the folders that it lay in; characters are left as they are."""
    name = raw.decode(errors="replace")
    for escape, character in ESCAPED.items():
        name = name.replace(escape, character)
    return re.split(r"[/\\]", name)[-1]


def _parser(boundary: bytes, form: _Form) -> MultipartParser:
    return MultipartParser(
        boundary,
        {
            "on_part_begin": form.on_part_begin,
            "on_header_field": form.on_header_field,
            "on_header_value": form.on_header_value,
            "on_header_end": form.on_header_end,
            "on_headers_finished": form.on_headers_finished,
            "on_part_data": form.on_part_data,
            "on_part_end": form.on_part_end,
            "on_end": form.on_end,
        },
    )


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 256:
        raise ApiError(
            400,
            "send a form (multipart/form-data): curl -F purpose=assistants -F file=@handbook.pdf",
            param="file",
            code="invalid_form",
        )
    return boundary


def _text(value: bytearray, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ApiError(400, f"{name} is not UTF-8", param=name, code="invalid_value") from None
