"""Objects in an S3 bucket, below one prefix. The only file here that knows the library, and what its failures mean.

Credentials and endpoint come from the environment, as everywhere: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from server.storage.errors import BlobsUnavailable

CONNECT_SECONDS = 3
SMALL_SECONDS = 5  # without a byte, of a manifest or a listing
READ_SECONDS = 60  # without a byte, of a file
ATTEMPTS = 3  # with growing pauses
PART_BYTES = 8 * 1024**2
PARTS_AT_ONCE = 4  # so that a transfer takes little memory, whatever the file's size
MOST_PARTS = 10_000  # of one object, S3's limit
CONFLICTS = 5

_ONE_REQUEST = {"max_concurrency": 1}  # without asking for the size first
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

    def __init__(self, url: str, *, session: Any = None) -> None:
        """session: aiobotocore's, where several stores share what it has read and which credentials it has found."""
        self.url = url.rstrip("/")
        self._bucket, _, prefix = self.url.partition("://")[2].partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._session = session
        self._small: Any = None
        self._large: Any = None

    def read(self, name: str) -> bytes | None:
        """A small object; None when it is not there."""
        try:
            with self._translated():
                content: bytes = self._quick().cat_file(self._place(name), **_ONE_REQUEST)
        except FileNotFoundError:
            return None
        return content

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Small objects, many at once; those that are not there are left out."""
        places = {self._place(name): name for name in names}
        if not places:
            return {}
        with self._translated():
            found = self._quick().cat(list(places), on_error="return", **_ONE_REQUEST)
            for content in found.values():
                if isinstance(content, Exception) and not _is_missing(content):
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
        """Write a file, in parts where it is large, under a name of its own; it is there whole or not at all."""
        n_bytes = file.stat().st_size
        part_bytes = max(PART_BYTES, -(-n_bytes // MOST_PARTS))
        try:
            with self._translated():
                self._slow().put_file(str(file), self._place(name), chunksize=part_bytes, max_concurrency=PARTS_AT_ONCE)
        except (BlobsUnavailable, FileNotFoundError) as error:
            # putting many parts together may take the store longer than we wait, and whoever asks again is told that
            # there is no such upload any more
            if not any(one.name == name and one.n_bytes == n_bytes for one in self.listed(name)):
                raise BlobsUnavailable(f"{self.url}/{name} could not be written: {error}") from error

    def download(self, name: str, file: Path) -> None:
        """Read an object into a file. Raises FileNotFoundError, and OSError when the disk is full."""
        with self._translated():
            self._slow().get_file(self._place(name), str(file), chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

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
        with suppress(FileNotFoundError), self._translated():
            self._quick().rm_file(self._place(name))

    def _create_unconditionally(self, name: str, content: bytes) -> bool:
        if self.read(name) is not None:
            return False
        self._quick().pipe_file(self._place(name), content)
        return True

    def _place(self, name: str) -> str:
        return f"{self._bucket}/{self._prefix}{name}"

    def _quick(self) -> Any:
        if self._small is None:
            self._small = self._filesystem(SMALL_SECONDS)
        return self._small

    def _slow(self) -> Any:
        if self._large is None:
            self._large = self._filesystem(READ_SECONDS)
        return self._large

    def _filesystem(self, read_seconds: float) -> Any:
        import aiobotocore.session  # type: ignore[import-untyped]  # it ships no types
        import fsspec

        self._session = self._session or aiobotocore.session.AioSession()
        filesystem = fsspec.filesystem(
            "s3",
            skip_instance_cache=True,
            use_listings_cache=False,  # what others write is to be seen at once
            session=self._session,
            config_kwargs={
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": read_seconds,
                "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
                "max_pool_connections": 64,
            },
        )
        filesystem.retries = 1  # its own come on top of those, and know less of what may be repeated
        return filesystem

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the library raises, in our words; a missing object and a full disk of ours come through."""
        try:
            yield
        except BlobsUnavailable:
            raise
        except Exception as error:  # the library's, its HTTP client's and its credential providers'
            if _is_missing(error) or (isinstance(error, OSError) and error.errno in _FULL):
                raise
            reason = (str(error).splitlines() or [""])[0][:200]
            raise BlobsUnavailable(
                f"the object store {self.url} does not answer as it should ({type(error).__name__}: {reason})"
            ) from error


def _code(error: BaseException) -> str:
    """S3's word for a failure, "" where there was no answer."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _is_missing(error: Exception) -> bool:
    """Whether only the object is: without its bucket nothing can be said of it."""
    return isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket"
