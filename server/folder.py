"""A folder beside what a vector store has of it: what is new, what changed, what is gone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

MAX_PATH = 512  # characters of an attribute's value
RETRIED = "server_error"  # what may go away by itself; a file that cannot be read stays so until it changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file in the folder."""

    path: str  # below the folder, with "/"
    file: Path
    digest: str  # SHA-256 of its bytes, hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A file in the store that came from a folder of this name, at some time."""

    file_id: str
    folder_id: str  # of the folder that it came from; "" where an earlier release put it there
    path: str
    digest: str
    status: str
    error_code: str | None
    error: str | None
    attributes: Mapping[str, Any]  # all that it has, also what people gave it

    @classmethod
    def of(cls, item: Mapping[str, Any], folder: str) -> Known | None:
        """From OpenAI's vector store file object; None for one that is not of a folder of this name."""
        attributes = item.get("attributes") or {}
        if attributes.get("folder") != folder or not isinstance(attributes.get("path"), str):
            return None
        error = item.get("last_error") or {}
        return cls(
            file_id=item["id"],
            folder_id=str(attributes.get("folder_id", "")),
            path=attributes["path"],
            digest=str(attributes.get("sha256", "")),
            status=item["status"],
            error_code=error.get("code"),
            error=error.get("message"),
            attributes=attributes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What makes the store equal to the folder."""

    new: tuple[Found, ...] = ()
    changed: tuple[Found, ...] = ()
    again: tuple[Known, ...] = ()  # uploaded before, to be read once more
    waiting: tuple[Known, ...] = ()  # of an earlier run, not read yet
    failed: tuple[Known, ...] = ()  # as before; they cannot be read
    unchanged: tuple[Known, ...] = ()
    outdated: Mapping[str, tuple[Known, ...]] = field(default_factory=dict)  # by path, once the newer one is there
    gone: tuple[Known, ...] = ()

    @property
    def uploads(self) -> tuple[Found, ...]:
        """What must be sent."""
        return self.new + self.changed

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.uploads or self.again or self.waiting or self.outdated or self.gone)


def paths(
    root: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    unlisted: Callable[[OSError], None] | None = None,
) -> Iterator[str]:
    """The files below a folder, sorted; empty and hidden ones are skipped, and so are links that lead out of it.

    Globs are compared with the path and with the file's name; `*` crosses "/". A file that cannot even be looked at is
    there as well: reading it says why. `unlisted` is told of each folder whose files cannot be listed.
    """
    inside = Path(os.path.realpath(root))
    for folder, folders, names in os.walk(root, onerror=unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            path = file.relative_to(root).as_posix()
            if not name.startswith(".") and _wanted(path, include, exclude) and _counts(file, inside):
                yield path


def has_text(file: Path) -> bool:
    """Whether there is a file, and something in it; a pipe, a socket or a dangling link is none. Raises OSError."""
    return file.is_file() and file.stat().st_size > 0


def problem(path: str) -> str | None:
    """Why a file of this name cannot be kept in a store; None when it can."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return f"its path has {len(path)} characters, more than {MAX_PATH}; shorten it" if len(path) > MAX_PATH else None


def read(root: Path, path: str) -> Found:
    """One file with its digest. Raises OSError."""
    with (root / path).open("rb") as stream:
        return Found(path=path, file=root / path, digest=hashlib.file_digest(stream, "sha256").hexdigest())


def compare(found: Sequence[Found], known: Sequence[Known], root: Path, *, retry: bool = False) -> Plan:
    """What is to be done. A known file that was not `found` is gone only if it is surely not under `root`, or empty."""
    by_path: dict[str, list[Known]] = {}
    for one in known:
        by_path.setdefault(one.path, []).append(one)
    new: list[Found] = []
    changed: list[Found] = []
    again: list[Known] = []
    waiting: list[Known] = []
    failed: list[Known] = []
    unchanged: list[Known] = []
    outdated: dict[str, tuple[Known, ...]] = {}
    for one_found in found:
        before = by_path.pop(one_found.path, [])
        same = [one for one in before if one.digest == one_found.digest]
        if not same:
            (changed if before else new).append(one_found)
        else:
            current = max(same, key=lambda one: (one.status == "completed", one.status == "in_progress"))
            if current.status == "completed":
                unchanged.append(current)
            elif current.status == "in_progress":
                waiting.append(current)
            elif retry or current.status == "cancelled" or current.error_code == RETRIED:
                again.append(current)
            else:
                failed.append(current)
            before.remove(current)
        if before:
            outdated[one_found.path] = tuple(before)
    gone = [one for path, ones in by_path.items() for one in ones if _is_gone(root / path)]
    return Plan(
        new=tuple(new),
        changed=tuple(changed),
        again=tuple(again),
        waiting=tuple(waiting),
        failed=tuple(failed),
        unchanged=tuple(unchanged),
        outdated=outdated,
        gone=tuple(gone),
    )


def _counts(file: Path, inside: Path) -> bool:
    try:
        leads_out = file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(inside)
        return not leads_out and has_text(file)
    except OSError:  # gone since it was listed, or its folder may not be entered
        return True


def _is_gone(file: Path) -> bool:
    try:
        return not has_text(file)
    except OSError:  # nobody can say; what can still be searched stays
        return False


def _wanted(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    name = PurePosixPath(path).name

    def fits(globs: Sequence[str]) -> bool:
        return any(fnmatchcase(path, glob) or fnmatchcase(name, glob) for glob in globs)

    return (not include or fits(include)) and not fits(exclude)
