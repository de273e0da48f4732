"""Where a backup's files go and come from: a folder, or one file that ends in `.tar`.

Both are written beside their place, under the name with `.part` behind it, and take the name when they are complete and
on the disk: whatever stops it, what bears the name is whole. Only their user may read them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from server.storage.errors import BackupFailed, BackupInvalid
from server.storage.file_lock import folder_locked, try_lock

TAR = ".tar"
PART = ".part"
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of a backup."""

    name: str  # below the backup, with slashes
    bytes: int
    sha256: str


class Writer(Protocol):
    """A backup that is being made."""

    def add(self, name: str, file: IO[bytes]) -> Part:
        """Copy an open file of the disk; one of that name gives way."""
        ...

    def add_lines(self, name: str, lines: Iterable[bytes]) -> Part:
        """Write these lines, each with its end."""
        ...

    def drop(self, folder: str) -> None:
        """Take out what was added below a name, where that can be done."""
        ...


class Reader(Protocol):
    """A backup that is there."""

    def open(self, name: str) -> IO[bytes]:
        """One file. Raises BackupInvalid when it is not there."""
        ...


@contextmanager
def writing(to: Path) -> Iterator[Writer]:
    """A backup to fill, which takes its name when the block ends well. Raises BackupFailed for a name that is taken."""
    _check_free(to)
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = to.with_name(to.name + PART)
    is_tar = to.suffix == TAR
    descriptor = _begun(aside, is_tar)
    try:
        if is_tar:
            with os.fdopen(os.dup(descriptor), "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
                yield _TarWriter(tar, to.parent)
            os.fsync(descriptor)
        else:
            yield _FolderWriter(aside)
            _sync_folders(aside)
        aside.rename(to)
        _sync(to.parent)
    except BaseException:
        _remove(aside)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """The backup of a folder or file. Raises BackupInvalid for what is neither."""
    if path.is_dir():
        yield _FolderReader(path)
        return
    if not path.exists():
        raise BackupInvalid(f"there is no backup {str(path)!r}")
    try:
        with tarfile.open(path, "r:") as tar:
            yield _TarReader(tar, path)
    except tarfile.TarError as error:
        raise BackupInvalid(f"{str(path)!r} is no .tar file, or not all of one: {error}") from error


def blocks(file: IO[bytes]) -> Iterator[bytes]:
    """What is left of an open file."""
    while block := file.read(BLOCK_BYTES):
        yield block


class _FolderWriter:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, file: IO[bytes]) -> Part:
        return self._write(name, blocks(file))

    def add_lines(self, name: str, lines: Iterable[bytes]) -> Part:
        return self._write(name, (line + b"\n" for line in lines))

    def drop(self, folder: str) -> None:
        _remove(self._folder / folder)

    def _write(self, name: str, pieces: Iterable[bytes]) -> Part:
        path = self._folder / name
        _make_folders(path.parent)
        sha256, n_bytes = hashlib.sha256(), 0
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
                sha256.update(piece)
                n_bytes += len(piece)
            file.flush()
            os.fsync(file.fileno())
        return Part(name=name, bytes=n_bytes, sha256=sha256.hexdigest())


class _TarWriter:
    """What was dropped stays in the file, where no manifest names it; of one name the last counts."""

    def __init__(self, tar: tarfile.TarFile, beside: Path) -> None:
        self._tar = tar
        self._beside = beside  # has room for a backup, as /tmp may not

    def add(self, name: str, file: IO[bytes]) -> Part:
        info = tarfile.TarInfo(name)
        status = os.fstat(file.fileno())
        info.size, info.mode, info.mtime = status.st_size - file.tell(), 0o600, int(status.st_mtime)
        hashing = _Hashing(file)
        self._tar.addfile(info, hashing)
        self._tar.members = []  # type: ignore[attr-defined]  # it would remember every one, for readers
        return Part(name=name, bytes=info.size, sha256=hashing.sha256.hexdigest())

    def add_lines(self, name: str, lines: Iterable[bytes]) -> Part:
        with tempfile.TemporaryFile(dir=self._beside) as file:  # a tar has sizes before contents
            for line in lines:
                file.write(line + b"\n")
            file.seek(0)
            return self.add(name, file)

    def drop(self, folder: str) -> None:
        return


class _Hashing:
    """Reads a file and hashes what goes by."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, n_bytes: int = -1) -> bytes:
        block = self._file.read(n_bytes)
        self.sha256.update(block)
        return block


class _FolderReader:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> IO[bytes]:
        try:
            return os.fdopen(os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # the last is what a link gives
                raise
            raise BackupInvalid(f"{str(self._folder)!r} is no complete backup: it has no {name}") from None


class _TarReader:
    def __init__(self, tar: tarfile.TarFile, path: Path) -> None:
        self._tar = tar
        self._path = path
        self._members = {member.name: member for member in tar if member.isreg()}

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        file = self._tar.extractfile(member) if member else None
        if file is None:
            raise BackupInvalid(f"{str(self._path)!r} is no complete backup: it has no {name}")
        return file


def _check_free(to: Path) -> None:
    if to.suffix in (".gz", ".zst", ".xz", ".bz2", ".tgz", ".zip"):
        raise BackupFailed(f"{to.name!r} would be compressed; make a .tar and compress that")
    if to.is_mount():
        raise BackupFailed(f"{str(to)!r} is a mounted disk; give a new name on it, such as {str(to / 'manyhats')!r}")
    is_taken = to.is_symlink() or to.exists()
    if is_taken and (to.suffix == TAR or not to.is_dir() or any(to.iterdir())):
        raise BackupFailed(f"{str(to)!r} is there already; a backup takes a new name, such as one with the date in it")


def _begun(aside: Path, is_tar: bool) -> int:
    """An empty file or folder, locked by this process; what a killed one has left is removed."""
    with folder_locked(aside.parent):
        if aside.exists():
            descriptor = os.open(aside, os.O_RDONLY)
            try:
                if not try_lock(descriptor):
                    raise BackupFailed(f"another backup is being written to {str(aside)!r}")
                _remove(aside)
            finally:
                os.close(descriptor)
        if is_tar:
            descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        else:
            aside.mkdir(mode=0o700)
            descriptor = os.open(aside, os.O_RDONLY | os.O_DIRECTORY)
        held = try_lock(descriptor)
    assert held, f"{aside} is locked by another"
    return descriptor


def _make_folders(folder: Path) -> None:
    """Each of them private, which `parents=True` is not."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(mode=0o700)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_folders(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a network's filesystem may not know that of folders
            raise
    finally:
        os.close(descriptor)
