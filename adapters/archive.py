"""Taking an adapter's two files out of an uploaded .zip or .tar.gz, by somebody who may mean harm.

Nothing is extracted by a member's own name: the two wanted members are copied into two fixed files, and what is
unpacked is counted while it is unpacked, whatever the archive says about its size.
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from adapters.errors import AdapterRefused, SourceRefused, SourceTooLarge
from adapters.peft_config import CONFIG_FILE, MAX_CONFIG_BYTES
from adapters.preflight import check_pickle
from adapters.safetensors_file import WEIGHTS_FILE

WANTED = (CONFIG_FILE, WEIGHTS_FILE)
MAX_MEMBERS = 10_000
MAX_READ_BYTES = 2 << 20  # one read while the table of contents is parsed: bounds its memory
COPY_BYTES = 1 << 20
BOMB_RATIO = 20  # floats hardly compress: more than this is no adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of an archive."""

    path: str
    is_folder: bool
    is_link: bool  # or a device, a pipe: anything that is not a plain file or folder


def unpack(archive: Path, into: Path, max_bytes: int) -> None:
    """Copy adapter_config.json and adapter_model.safetensors out of the archive, from its root or its one top folder.

    Raises SourceRefused (not_an_archive, damaged_archive, encrypted_archive, path_escape, links, zip_bomb,
    too_many_files, duplicate_files, several_adapters), SourceTooLarge, AdapterRefused (config_missing, weights_missing,
    pickle_weights).
    """
    with archive.open("rb") as file:
        magic = file.read(4)
    budget = Budget(max_bytes, packed_bytes=archive.stat().st_size)
    with _readable():
        if magic[:2] == b"PK":
            _unpack_zip(archive, into, budget)
        elif magic[:2] == b"\x1f\x8b":
            _unpack_tar(archive, into, budget)
        else:
            raise SourceRefused(
                "not_an_archive", "the file is neither .zip nor .tar.gz; pack the adapter's folder as one"
            )


class Budget:
    """How many bytes may still be unpacked."""

    def __init__(self, max_bytes: int, *, packed_bytes: int) -> None:
        self._max = max_bytes
        self._packed = packed_bytes
        self._used = 0

    def spend(self, n_bytes: int) -> None:
        """Raises SourceTooLarge, or SourceRefused (zip_bomb) where the archive is far smaller than its content."""
        self._used += n_bytes
        if self._used <= self._max:
            return
        if self._packed * BOMB_RATIO < self._used:
            raise SourceRefused(
                "zip_bomb",
                f"{self._packed} packed bytes unpack to more than the {self._max} that one adapter may have; "
                f"pack only {' and '.join(WANTED)}",
            )
        raise too_large(self._max)


def too_large(max_bytes: int) -> SourceTooLarge:
    """The refusal of a source with too many bytes."""
    return SourceTooLarge(
        f"the source holds more than the {max_bytes} bytes that one adapter may have; give only "
        f"{' and '.join(WANTED)}, save it in bfloat16, or raise MANYHATS_MAX_ADAPTER_BYTES"
    )


def copy(source: IO[bytes], into: Path, spend: Callable[[int], None]) -> None:
    """Copy to a new file, block by block; `spend` is told of every block before it is written."""
    limit = MAX_CONFIG_BYTES if into.name == CONFIG_FILE else None
    written = 0
    with into.open("xb") as file:
        while block := source.read(COPY_BYTES):
            written += len(block)
            if limit is not None and written > limit:
                raise AdapterRefused("bad_config", f"{CONFIG_FILE} is larger than {limit} bytes; it is not PEFT's")
            spend(len(block))
            file.write(block)


def wanted(members: list[Member]) -> dict[str, str]:
    """File name → the member that holds it; refuses archives that hold anything but plain files and folders."""
    for member in members:
        _check_member(member)
    files = [PurePosixPath(member.path) for member in members if not member.is_folder]
    found: dict[PurePosixPath, dict[str, str]] = {}
    for path, member in zip(files, (member for member in members if not member.is_folder), strict=True):
        if path.name not in WANTED or len(path.parts) > 2:
            continue
        folder = found.setdefault(path.parent, {})
        if path.name in folder:
            raise SourceRefused("duplicate_files", f"the archive holds {str(path)!r} twice; pack each file once")
        folder[path.name] = member.path
    root = PurePosixPath()
    if len(found) > 1 and set(found.get(root, ())) != set(WANTED):
        folders = ", ".join(sorted(str(folder) for folder in found))
        raise SourceRefused("several_adapters", f"the archive holds adapter files in {folders}; pack one adapter alone")
    chosen = found.get(root) or next(iter(found.values()), {})
    if WEIGHTS_FILE not in chosen:
        check_pickle(path.name for path in files)
    missing = [name for name in WANTED if name not in chosen]
    if missing:
        here = ", ".join(sorted(map(str, files))[:5]) or "nothing"
        raise AdapterRefused(
            "config_missing" if CONFIG_FILE in missing else "weights_missing",
            f"{' and '.join(missing)} not found at the archive's root or in its one top folder (it holds {here}); "
            "pack the folder that PEFT's save_pretrained wrote",
        )
    return chosen


def _check_member(member: Member) -> None:
    path = member.path
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/") or path[1:2] == ":":
        raise SourceRefused("path_escape", f"the archive's member {path[:80]!r} leads out of it; pack with plain paths")
    if member.is_link:
        raise SourceRefused(
            "links", f"the archive's member {path[:80]!r} is a link or device; pack the files themselves (tar -h, zip)"
        )


def _unpack_zip(archive: Path, into: Path, budget: Budget) -> None:
    with _ShortReads(archive) as file, zipfile.ZipFile(file) as zipped:
        entries = zipped.infolist()
        if len(entries) > MAX_MEMBERS:
            raise _too_many()
        for name, path in wanted([_zip_member(entry) for entry in entries]).items():
            entry = zipped.getinfo(path)
            if entry.flag_bits & 1:
                raise SourceRefused("encrypted_archive", "the archive is encrypted; pack it without a password")
            with zipped.open(entry) as source:
                copy(source, into / name, budget.spend)


def _zip_member(entry: zipfile.ZipInfo) -> Member:
    mode = stat.S_IFMT(entry.external_attr >> 16)
    return Member(
        path=entry.orig_filename,
        is_folder=entry.is_dir(),
        is_link=mode not in (0, stat.S_IFREG, stat.S_IFDIR),
    )


def _unpack_tar(archive: Path, into: Path, budget: Budget) -> None:
    """Two passes: the first sees every member and refuses, the second copies. Only the first counts what it skips."""
    members: list[Member] = []
    with _tar(archive, budget) as tar:
        for entry in tar:
            members.append(_tar_member(entry))
            if len(members) > MAX_MEMBERS:
                raise _too_many()
    chosen = {path: name for name, path in wanted(members).items()}
    with _tar(archive, None) as tar:
        for entry in tar:
            if entry.name in chosen:
                source = tar.extractfile(entry)
                assert source is not None  # links and devices were refused above
                copy(source, into / chosen[entry.name], lambda _: None)


def _tar_member(entry: tarfile.TarInfo) -> Member:
    is_plain = (entry.isreg() and not entry.issparse()) or entry.isdir()
    return Member(path=entry.name, is_folder=entry.isdir(), is_link=not is_plain)


@contextmanager
def _tar(archive: Path, budget: Budget | None) -> Iterator[tarfile.TarFile]:
    with (
        gzip.open(archive) as unzipped,
        tarfile.open(fileobj=cast("IO[bytes]", _Counted(unzipped, budget)), mode="r:") as tar,
    ):
        yield tar


class _Counted(io.RawIOBase):
    """What comes out of gzip: forward only, in bounded reads, every byte counted, the skipped ones too."""

    def __init__(self, source: gzip.GzipFile, budget: Budget | None) -> None:
        self._source = source
        self._budget = budget
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ_BYTES:
            raise SourceRefused("damaged_archive", f"a header of the archive claims {size} bytes; pack it anew")
        block = self._source.read(size)
        self._position += len(block)
        if self._budget is not None:
            self._budget.spend(len(block))
        return block

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise SourceRefused("damaged_archive", "the archive's entries lead backwards; pack it anew")
        while self._position < offset and self.read(min(COPY_BYTES, offset - self._position)):
            pass
        return self._position


class _ShortReads(io.FileIO):
    """A file that refuses long reads: zipfile reads the whole table of contents in one, of the size it claims."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = MAX_READ_BYTES  # the search for the archive's end reads what is left: at most 64 KiB
        if size > MAX_READ_BYTES:
            raise SourceRefused(
                "too_many_files", "the archive's table of contents is too long; pack only the two files"
            )
        return super().read(size) or b""


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, UnicodeError) as error:
        raise SourceRefused(
            "damaged_archive", f"the archive cannot be read ({error}); pack and upload it again"
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        raise SourceRefused(
            "damaged_archive", f"the archive cannot be read ({error}); pack it as an ordinary .zip or .tar.gz"
        ) from error


def _too_many() -> SourceRefused:
    return SourceRefused("too_many_files", f"the archive has more than {MAX_MEMBERS} members; pack only the two files")
