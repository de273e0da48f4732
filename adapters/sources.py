"""Where adapters come from: an uploaded archive, a local folder, a model hub, any fsspec URL, all on an allow-list.

    sources = Sources((Path("/srv/adapters"),), ("hf://our-org/", "s3://models/"), max_bytes=2 << 30)
    sources.stage("hf://our-org/legal@v2", into)

Every way ends with exactly adapter_config.json and adapter_model.safetensors in `into`, or with nothing in it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import unquote

from adapters import peft_config, remote
from adapters.archive import WANTED, Budget, copy, unpack
from adapters.differences import is_checkpoint
from adapters.errors import SourceNotFound, SourceRefused
from adapters.peft_config import CONFIG_FILE
from adapters.preflight import check_pickle
from adapters.safetensors_file import WEIGHTS_FILE

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)
_LOCAL = ("file", "local")
# fsspec's views on other file systems: each could lead from an allowed place to the local disk
_WRAPPERS = frozenset(
    ("asynclocal", "asyncwrapper", "blockcache", "cached", "data", "dir", "filecache", "generic", "git", "libarchive")
) | {"reference", "simplecache", "sftp", "smb", "ssh", "tar", "zip", "jupyter", "jlab", "dask"}


@dataclass(frozen=True, slots=True, kw_only=False)
class Sources:
    """The places that adapters may come from, and how large they may be."""

    roots: tuple[Path, ...]  # local folders
    remotes: tuple[str, ...]  # URL prefixes: "hf://org/", "s3://bucket/folder"
    max_bytes: int  # of one adapter, unpacked

    def stage(self, source: str, into: Path) -> None:
        """A local path (folder or archive) or a URL. Raises SourceRefused and its siblings, AdapterRefused."""
        url = _URL.fullmatch(source)
        if url is None:
            self.stage_folder(Path(source), into)
        elif url[1].lower() in _LOCAL and "::" not in source:
            self.stage_folder(Path(unquote(url[2])), into)
        else:
            self.stage_remote(source, into)

    def stage_checkpoint(self, source: str, into: Path) -> bool:
        """Lead to a whole model in a local folder inside the roots, copying nothing; False where there is none.

        Only for a conversion, which reads one weight after the other. Raises SourceRefused.
        """
        url = _URL.fullmatch(source)
        if url is not None and url[1].lower() not in _LOCAL:
            return False
        folder = Path(source if url is None else unquote(url[2]))
        if not folder.is_dir() or not is_checkpoint(folder):
            return False
        self._check_local(folder)
        for file in sorted(folder.glob("model*.safetensors*")):
            with self._opened(file):  # checked as what is copied is
                (into / file.name).symlink_to(file.resolve())
        return True

    def stage_archive(self, archive: Path, into: Path) -> None:
        """An uploaded .zip or .tar.gz, which its owner gave us: not checked against the roots."""
        with _appearing(into) as work:
            unpack(archive, work, self.max_bytes)

    def stage_upload(self, archive: IO[bytes], into: Path) -> None:
        """The same, while it is still being read from somewhere; its own bytes are limited too."""
        with _appearing(into) as work:
            packed = work / "upload"
            copy(archive, packed, Budget(self.max_bytes, packed_bytes=self.max_bytes).spend)
            unpack(packed, work, self.max_bytes)

    def stage_folder(self, folder: Path, into: Path) -> None:
        """A folder, or a .zip or .tar.gz, inside one of the roots."""
        self._check_local(folder)
        if not os.path.lexists(folder):
            raise SourceNotFound(f"there is no {str(folder)!r}; give a folder with {' and '.join(WANTED)}")
        with _appearing(into) as work:
            if folder.is_dir():
                self._copy_folder(folder, work)
                return
            with self._opened(folder) as archive:
                unpack(Path(f"/proc/self/fd/{archive.fileno()}"), work, self.max_bytes)  # the file that was checked

    def stage_remote(self, url: str, into: Path) -> None:
        """An hf:// or other fsspec URL that starts with one of the allowed prefixes."""
        url = self._checked_url(url)
        with _appearing(into) as work:
            follow = remote.fetch_from_hub if url.startswith("hf://") else remote.fetch
            follow(url, work, self.max_bytes)

    def check(self, source: str) -> None:
        """Whether a URL is allowed, without fetching anything; raises SourceRefused."""
        self._checked_url(source)

    def _checked_url(self, url: str) -> str:
        match = _URL.fullmatch(url)
        if match is None:
            raise SourceRefused("bad_url", f"{url!r} is no URL; write hf://org/repo, s3://bucket/folder or a path")
        scheme, rest = match[1].lower(), match[2]
        if "::" in url or scheme in _WRAPPERS or scheme in _LOCAL:
            raise SourceRefused(
                "not_allowed",
                f"{url!r} leads through another file system; give the place itself: hf://, s3://, https://",
            )
        plain = unquote(unquote(rest))
        if ".." in re.split(r"[/\\]", plain) or re.search(r"[\\\x00-\x1f\x7f]", plain):
            raise SourceRefused("path_escape", f"{url!r} leads elsewhere than it says; write the plain address")
        if scheme != "hf" and "@" in plain.partition("/")[0]:
            raise SourceRefused(
                "credentials", f"the {scheme}:// address holds credentials; put them into the server's environment"
            )
        url = f"{scheme}://{rest}"
        if not any(_is_below(url, prefix) for prefix in self.remotes):
            raise SourceRefused(
                "not_allowed",
                f"{url!r} is not an allowed source; allowed: {', '.join(self.remotes) or 'none'} "
                "(MANYHATS_ADAPTER_SOURCES); upload the files, or have its prefix added",
            )
        return url

    def _check_local(self, path: Path) -> None:
        try:
            real = path.resolve()
        except (OSError, ValueError, RuntimeError) as error:  # no path at all, or links in a circle
            raise SourceNotFound(f"{str(path)[:200]!r} cannot be followed: {error}; give a plain path") from error
        if not path.is_absolute() or not self._is_inside(real):
            roots = ", ".join(map(str, self.roots)) or "none"
            raise SourceRefused(
                "not_allowed",
                f"{str(path)!r} is not in an allowed folder; allowed: {roots} (MANYHATS_ADAPTER_ROOTS); "
                "move it there (absolute path), or upload it",
            )

    def _is_inside(self, real: Path) -> bool:
        return any(real.is_relative_to(root.expanduser().resolve()) for root in self.roots)

    def _copy_folder(self, folder: Path, work: Path) -> None:
        budget = Budget(self.max_bytes, packed_bytes=self.max_bytes)
        if not (folder / WEIGHTS_FILE).exists():
            check_pickle(path.name for path in folder.iterdir())
        for name in WANTED:
            if not (folder / name).exists():
                raise remote.missing(str(folder), name)
            with self._opened(folder / name) as source:
                copy(source, work / name, budget.spend)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        """The file, checked after it was opened: nobody can put a link in its place in between."""
        try:
            number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not block us
        except OSError as error:
            raise SourceNotFound(f"{str(path)!r} cannot be opened: {error.strerror}; check its permissions") from error
        with os.fdopen(number, "rb") as file:
            real = Path(f"/proc/self/fd/{number}").readlink()
            if not self._is_inside(real):
                raise SourceRefused(
                    "links",
                    f"{str(path)!r} is a link that leads out of the allowed folders; copy the file itself there",
                )
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise SourceRefused("links", f"{str(path)!r} is not a plain file; give the adapter's folder")
            yield file


def _is_below(url: str, prefix: str) -> bool:
    """Whether the URL is the prefix's place or lies in it: s3://models does not allow s3://models-of-others."""
    scheme, separator, rest = prefix.partition("://")
    prefix = f"{scheme.lower()}{separator}{rest}"
    if not rest:
        return bool(separator) and url.startswith(prefix)  # "s3://": all of it
    place = prefix.rstrip("/")
    return url == place or url.startswith((f"{place}/", f"{place}@") if scheme.lower() == "hf" else f"{place}/")


@contextmanager
def _appearing(into: Path) -> Iterator[Path]:
    """A private folder whose two files move to `into` at the end; after a failure nothing of it is left."""
    work = into / ".partial"
    work.mkdir(parents=True)
    try:
        yield work
        config = work / CONFIG_FILE
        config.write_bytes(peft_config.staged(config.read_bytes()))
        for name in WANTED:
            (work / name).rename(into / name)
    finally:
        shutil.rmtree(work)
