"""Copies on this machine of blobs that lie in an object store; all processes of one data directory share them.

A copy appears whole, is never changed, and is known by its upload, so that it can never stand for other bytes. What
was asked for within the last hour stays, even above the limit: an engine or an evaluation may be about to read it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from server.storage.blob_manifest import Manifest, ManifestUnreadable
from server.storage.blobs import LocalBlobs
from server.storage.file_lock import folder_locked

KEEP_SECONDS = 3600.0
COUNT_SECONDS = 60.0  # after that long the folder is looked through again: other processes add to it too

_COPIES = "copies"
_LOCKS = "locks"
_MANIFEST = "manifest.json"
_FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    name: str
    n_bytes: int
    used_at: float


class BlobCache:
    """Copies below one folder, of which those that were not asked for longest go first."""

    def __init__(self, root: Path, *, most_bytes: int, clock: Callable[[], float] = time.time) -> None:
        """clock: Unix seconds, as the file system's."""
        self._root = root
        self._local = LocalBlobs(root)
        self._most_bytes = most_bytes
        self._clock = clock
        self._n_bytes = 0  # as far as this process knows
        self._counted_at = float("-inf")
        (root / _LOCKS).mkdir(mode=0o700, exist_ok=True)

    def staging(self) -> AbstractContextManager[Path]:
        """A private folder on the same disk, gone at the end."""
        return self._local.staging()

    def find(self, manifest: Manifest) -> Path | None:
        """The folder of the files, which stay for the next hour; None when there is no copy."""
        folder = self._root / _COPIES / _name(manifest)
        with folder_locked(self._root / _LOCKS):  # what is being thrown out now is not given out any more
            try:
                os.utime(folder / _MANIFEST, (self._clock(),) * 2)
            except FileNotFoundError:
                return None
        return folder / _FILES

    def last_known(self, key: str) -> Manifest | None:
        """What the key meant when it was last asked for here: for a time in which the store cannot be asked."""
        known = [(used_at, manifest) for used_at, manifest in self._manifests() if manifest.key == key]
        return max(known, key=lambda one: one[0])[1] if known else None

    def all(self) -> list[Manifest]:
        """Of every copy."""
        return [manifest for _, manifest in self._manifests()]

    def adopt(self, folder: Path, manifest: Manifest) -> Path:
        """Make a folder, which lies in `staging` and holds the manifest's files, the copy."""
        with self._local.staging() as whole:
            folder.rename(whole / _FILES)
            (whole / _MANIFEST).write_bytes(manifest.content)
            copy = self._local.commit(whole, f"{_COPIES}/{_name(manifest)}")
        self._n_bytes += manifest.n_bytes
        self.shrink()
        return self.find(manifest) or copy / _FILES

    @contextmanager
    def making(self, manifest: Manifest) -> Iterator[None]:
        """One process and thread at a time makes this copy; the others wait and then find it."""
        bucket = self._root / _LOCKS / manifest.upload[:2]
        bucket.mkdir(mode=0o700, exist_ok=True)
        with folder_locked(bucket):
            yield

    def drop(self, manifest: Manifest) -> None:
        """Throw a copy out; files that are open stay readable."""
        self._local.remove(f"{_COPIES}/{_name(manifest)}")

    def shrink(self) -> None:
        """Throw out what was not asked for longest until the limit holds, or only what was asked for lately is left."""
        now = self._clock()
        if now - self._counted_at < COUNT_SECONDS and self._n_bytes <= self._most_bytes:
            return
        copies = sorted(self._copies(), key=lambda copy: copy.used_at)
        self._n_bytes, self._counted_at = sum(copy.n_bytes for copy in copies), now
        for copy in copies:
            if self._n_bytes <= self._most_bytes or now - copy.used_at < KEEP_SECONDS:
                return
            if self._throw_out(copy):
                self._n_bytes -= copy.n_bytes

    def sweep(self) -> None:
        """Remove what killed processes have left, and hold the limit."""
        self._local.sweep()
        self._counted_at = float("-inf")
        self.shrink()

    def _throw_out(self, copy: _Copy) -> bool:
        with folder_locked(self._root / _LOCKS):
            now = self._used_at(self._root / _COPIES / copy.name)
            if now == copy.used_at:  # nobody has asked for it since we looked
                self._local.remove(f"{_COPIES}/{copy.name}")
            return now in (None, copy.used_at)

    def _copies(self) -> Iterator[_Copy]:
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._root / _COPIES):
                used_at = self._used_at(Path(entry.path))
                if used_at is not None:
                    yield _Copy(name=entry.name, n_bytes=int(entry.name.partition(".")[2]), used_at=used_at)

    def _manifests(self) -> Iterator[tuple[float, Manifest]]:
        for copy in self._copies():
            with suppress(FileNotFoundError, ManifestUnreadable):
                content = (self._root / _COPIES / copy.name / _MANIFEST).read_bytes()
                yield copy.used_at, Manifest.read(content)

    def _used_at(self, folder: Path) -> float | None:
        try:
            return (folder / _MANIFEST).stat().st_mtime
        except FileNotFoundError:
            return None


class LastCopy(BlobCache):
    """Only the copy that was made last: for one that goes through all blobs, one after the other."""

    def __init__(self, root: Path) -> None:
        """root: nobody else's."""
        super().__init__(root, most_bytes=sys.maxsize)

    def adopt(self, folder: Path, manifest: Manifest) -> Path:
        """As everywhere, in place of the one before."""
        for before in self.all():
            self.drop(before)
        return super().adopt(folder, manifest)


def _name(manifest: Manifest) -> str:
    """With the size, which is then known of a copy without reading it."""
    return f"{manifest.upload}.{manifest.n_bytes}"
