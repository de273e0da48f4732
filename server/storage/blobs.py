"""Blobs (`blob_store.py`) as folders of this machine.

A blob holds at least one file directly, and no blob lies inside another; that is how a blob's folder is told from the
folders above it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from server.storage.blob_store import STAGING, TRASH, check_key
from server.storage.file_lock import folder_locked, try_lock


class LocalBlobs:
    """Blobs under one folder of one filesystem. Safe for any number of threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = root / STAGING
        self._trash = root / TRASH
        for folder in (root, self._staging, self._trash):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh private folder to fill and then `commit`; what was not committed is removed at the end."""
        folder = self._staging / secrets.token_hex(8)
        with folder_locked(self._staging):  # so that `sweep` never sees it before its lock
            folder.mkdir(mode=0o700)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            held = try_lock(descriptor)
        assert held, f"{folder} is locked by another"
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def prepare(self, folder: Path, key: str) -> None:
        """Bring the files to the disk now, so that `commit` has little left to wait for."""
        check_key(key)
        _sync_tree(folder)

    def commit(self, folder: Path, key: str) -> Path:
        """Make a staged folder the blob of that key and return where it lies now, on the disk for good.

        When the key exists already, the existing blob stays and is returned. Raises ValueError for a key that is not
        a path of plain names, that lies inside another blob or above one, and for a folder without a file.
        """
        target = self._place(key)
        if not _is_blob(folder):
            raise ValueError(f"{folder} holds no file; a blob needs at least one")
        if any(_is_blob(parent) for parent in target.parents if parent != self._root and self._root in parent.parents):
            raise ValueError(f"{key!r} lies inside another blob")
        _sync_tree(folder)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not _is_blob(target):
                raise ValueError(f"{key!r} lies above other blobs") from error
            return target
        for parent in target.parents:
            _sync(parent)
            if parent == self._root:
                break
        return target

    def path(self, key: str) -> Path:
        """Where a blob's files lie. Raises FileNotFoundError."""
        target = self._place(key)
        if not _is_blob(target):
            raise FileNotFoundError(errno.ENOENT, "no such blob", str(target))
        return target

    def files(self, keys: Iterable[str]) -> dict[str, frozenset[str]]:
        """The names of the files of those blobs that there are, as paths below the blob's folder."""
        found = {}
        for key in keys:
            folder = self._place(key)
            if _is_blob(folder):
                found[key] = frozenset(
                    (Path(parent) / name).relative_to(folder).as_posix()
                    for parent, _, names in os.walk(folder)
                    for name in names
                )
        return found

    def keys(self, prefix: str = "") -> list[str]:
        """Every key that begins with the prefix, sorted."""
        return sorted(key for key in self._walk(self._root) if key.startswith(prefix))

    def remove(self, key: str) -> None:
        """Delete a blob: from one moment to the next it is not there. One that is not there already is no error."""
        target = self._place(key)
        if not _is_blob(target):
            return
        grave = self._trash / secrets.token_hex(8)
        try:
            target.rename(grave)
        except FileNotFoundError:  # another was faster
            return
        _sync(target.parent)
        shutil.rmtree(grave, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed processes have left: unfinished folders that nobody holds, and half-deleted ones."""
        with folder_locked(self._staging):
            for folder in list(self._staging.iterdir()):
                self._discard(folder)
        for grave in list(self._trash.iterdir()):
            shutil.rmtree(grave, ignore_errors=True)

    def tidy(self) -> None:
        """Nothing: only this machine writes here, and `sweep` sees to it."""

    def _place(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _walk(self, folder: Path) -> Iterator[str]:
        try:
            entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:  # removed while we looked
            return
        for entry in entries:
            path = Path(entry.path)
            if path in (self._staging, self._trash):
                continue
            if _is_blob(path):
                yield path.relative_to(self._root).as_posix()
            else:
                yield from self._walk(path)

    def _discard(self, folder: Path) -> None:
        """Remove a staged folder unless a live process holds it."""
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # its owner has just finished
            return
        try:
            if try_lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _is_blob(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_file(follow_symlinks=False) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sync_tree(folder: Path) -> None:
    for parent, _folders, files in os.walk(folder):
        for name in files:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
