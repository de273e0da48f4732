"""A copy of a folder whose files are replaced and never changed: by links, so it takes no time and no room."""

from __future__ import annotations

from pathlib import Path

ATTEMPTS = 20


def link_files(source: Path, target: Path, *, leader: str) -> None:
    """Link all files of a folder into an empty one, so that they belong together; raises OSError.

    leader: the file that names the others, and is replaced before any that it named is removed.
    """
    for _ in range(ATTEMPTS):
        if _linked(source, target, leader):
            return
        for path in target.iterdir():
            path.unlink()
    raise OSError(f"the files of {source} changed again and again while they were copied")


def _linked(source: Path, target: Path, leader: str) -> bool:
    """Whether the leader stayed what it was while all others were linked."""
    try:
        (target / leader).hardlink_to(source / leader)
        for path in source.iterdir():
            if path.name != leader and path.suffix != ".lock":
                (target / path.name).hardlink_to(path)
        return (target / leader).samefile(source / leader)
    except FileNotFoundError:
        return False
