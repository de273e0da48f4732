"""Objects in an S3 bucket, below one prefix. The only file here that knows the library, and what its failures mean.

Credentials and endpoint come from the environment, as everywhere: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from server.storage.errors import BlobsUnavailable

CONNECT_SECONDS = 3
SMALL_SECONDS = 5  # without a byte, of a manifest or a listing
READ_SECONDS = 20  # without a byte, of a file
ATTEMPTS = 3  # with growing pauses
PART_BYTES = 8 * 1024**2
PARTS_AT_ONCE = 4  # so that a transfer takes 32 MiB of memory, whatever the file's size
MOST_PARTS = 10_000  # of one object, S3's limit
CONFLICTS = 5

_FULL = (errno.ENOSPC, errno.EDQUOT)
_EXISTS = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "409"}
_UNKNOWN = {"NotImplemented", "501"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a listing."""

    name: str  # below the prefix
    n_bytes: int
    modified: datetime  # by the store's clock


class ObjectStore:
    """The objects below `s3://bucket/prefix`. Connects at first use; any thread may call it.

    Every method raises BlobsUnavailable when the store does not answer, refuses, or has no such bucket.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._bucket, _, prefix = self.url.partition("://")[2].partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._small: Any = None
        self._large: Any = None

    def read(self, name: str) -> bytes | None:
        """A small object; None when it is not there."""
        with self._translated():
            try:
                content: bytes = self._quick().cat_file(self._place(name))
            except FileNotFoundError as error:
                _check_bucket(error)
                return None
            return content

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Small objects, many at once; those that are not there are left out."""
        places = {self._place(name): name for name in names}
        if not places:
            return {}
        with self._translated():
            found = self._quick().cat(list(places), on_error="return")
            for content in found.values():
                if isinstance(content, FileNotFoundError):
                    _check_bucket(content)
                elif isinstance(content, Exception):
                    raise content
        return {places[place]: content for place, content in found.items() if isinstance(content, bytes)}

    def create(self, name: str, content: bytes) -> bool:
        """Write a small object unless one has that name; whether it was written.

        A store that does not know the condition (`If-None-Match`) overwrites what came between a look and the write.
        """
        for _ in range(CONFLICTS):
            with self._translated():
                try:
                    self._quick().pipe_file(self._place(name), content, mode="create")
                except Exception as error:
                    code = _code(error)
                    if isinstance(error, FileExistsError) or code in _EXISTS:
                        return False
                    if code in _CONFLICT:  # another is writing it now; who it was is known a moment later
                        continue
                    if code in _UNKNOWN:
                        return self._create_unconditionally(name, content)
                    raise
                return True
        raise BlobsUnavailable(f"{self.url}/{name} is being written by too many at once")

    def upload(self, file: Path, name: str) -> None:
        """Write a file, in parts where it is large; it is there whole or not at all."""
        part_bytes = max(PART_BYTES, -(-file.stat().st_size // MOST_PARTS))
        with self._translated():
            self._slow().put_file(str(file), self._place(name), chunksize=part_bytes, max_concurrency=PARTS_AT_ONCE)

    def download(self, name: str, file: Path) -> None:
        """Read an object into a file. Raises FileNotFoundError, and OSError when the disk is full."""
        with self._translated():
            try:
                self._slow().get_file(self._place(name), str(file), chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
            except FileNotFoundError as error:
                _check_bucket(error)
                raise

    def listed(self, prefix: str) -> Iterator[Listed]:
        """The objects whose names begin with the prefix, sorted by their bytes; a thousand are held at a time."""
        further: dict[str, str] = {}
        while True:
            with self._translated():
                page = self._quick().call_s3(
                    "list_objects_v2", Bucket=self._bucket, Prefix=self._prefix + prefix, **further
                )
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(self._prefix)
                yield Listed(name=name, n_bytes=entry["Size"], modified=entry["LastModified"])
            if not page.get("IsTruncated"):
                return
            further = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, name: str) -> None:
        """Take an object away; one that is not there is no error."""
        with self._translated():
            try:
                self._quick().rm_file(self._place(name))
            except FileNotFoundError as error:
                _check_bucket(error)

    def _create_unconditionally(self, name: str, content: bytes) -> bool:
        if self.read(name) is not None:
            return False
        self._quick().pipe_file(self._place(name), content)
        return True

    def _place(self, name: str) -> str:
        return f"{self._bucket}/{self._prefix}{name}"

    def _quick(self) -> Any:
        if self._small is None:
            self._small = _filesystem(SMALL_SECONDS)
        return self._small

    def _slow(self) -> Any:
        if self._large is None:
            self._large = _filesystem(READ_SECONDS)
        return self._large

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the library raises, in our words; FileNotFoundError and a full disk of ours come through."""
        try:
            yield
        except (BlobsUnavailable, FileNotFoundError):
            raise
        except Exception as error:  # the library's, its HTTP client's and its credential providers'
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            reason = (str(error).splitlines() or [""])[0][:200]
            raise BlobsUnavailable(
                f"the object store {self.url} does not answer as it should ({type(error).__name__}: {reason})"
            ) from error


def _filesystem(read_seconds: float) -> Any:
    import fsspec

    filesystem = fsspec.filesystem(
        "s3",
        skip_instance_cache=True,
        use_listings_cache=False,  # what others write is to be seen at once
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": read_seconds,
            "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
            "max_pool_connections": 64,
        },
    )
    filesystem.retries = 1  # its own come on top of those, and know less of what may be repeated
    return filesystem


def _code(error: BaseException) -> str:
    """S3's word for a failure, "" where there was no answer."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _check_bucket(error: FileNotFoundError) -> None:
    """That only the object is missing: without its bucket nothing can be said of it. Raises BlobsUnavailable."""
    if _code(error) == "NoSuchBucket":
        raise BlobsUnavailable(f"the object store has no such bucket: {error}") from error
