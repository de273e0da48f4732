"""A folder that ends with its process: what a killed one has left is removed by the next."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from pathlib import Path


class Scratch:
    """A folder of this process's own under a common one. Processes find out by a lock whether its owner lives."""

    def __init__(self, common: Path) -> None:
        """Make the folder and remove those of dead processes; raises OSError."""
        common.mkdir(mode=0o700, parents=True, exist_ok=True)
        turn = _locked(common / "lock")
        try:
            for folder in common.iterdir():
                if folder.is_dir():
                    _remove_if_dead(folder)
            self.folder = common / uuid.uuid4().hex[:16]
            self.folder.mkdir(mode=0o700)
            self._lock = _locked(self.folder / "lock")
        finally:
            os.close(turn)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _locked(path: Path) -> int:
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _remove_if_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)  # its maker died before it was locked
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(lock)
