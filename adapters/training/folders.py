"""Where jobs keep their own copy of the data and what they have learnt so far: a folder each.

    <root>/<job id>/training.jsonl
                    validation.jsonl    where one was given
                    work/               the trainer's

Bytes come first and the job's row after, so a folder without one is what a killed process left, or one that is being
made at this moment: `sweep` tells them apart by age.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

TRAINING = "training.jsonl"
VALIDATION = "validation.jsonl"
WORK = "work"
MAKING_SECONDS = 3600.0  # far more than it takes to read the largest file

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}


class JobFolders:
    """The folder of each job under one root, which is made when the first job is."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def make(self, job_id: str, training: Path, validation: Path | None) -> Path:
        """A job's folder with its own copy of the files, which may then be deleted. Raises OSError as it comes."""
        folder = self._root / job_id
        folder.mkdir(parents=True, mode=0o700)
        try:
            _copy(training, folder / TRAINING)
            if validation is not None:
                _copy(validation, folder / VALIDATION)
            for path in (folder, self._root):
                _flush(path)
        except BaseException:
            self.remove(job_id)
            raise
        return folder

    def path(self, job_id: str) -> Path:
        """Of one job, whether it is there or not."""
        return self._root / job_id

    def ready(self) -> list[str]:
        """The ids of the jobs whose data are here."""
        return [path.parent.name for path in self._root.glob(f"*/{TRAINING}")]

    def remove(self, job_id: str) -> None:
        """With all that is in it; nothing happens where there is none."""
        shutil.rmtree(self._root / job_id, ignore_errors=True)

    def sweep(self, needed: Collection[str], clock: Callable[[], float] = time.time) -> list[str]:
        """Remove the folders of all but these jobs, and return their ids; one that is being made stays."""
        if not self._root.is_dir():
            return []
        removed = []
        for folder in sorted(self._root.iterdir()):
            with suppress(FileNotFoundError):  # removed meanwhile by who had begun it
                if folder.name not in needed and folder.stat().st_ctime < clock() - MAKING_SECONDS:
                    self.remove(folder.name)
                    removed.append(folder.name)
        return removed


def _copy(source: Path, target: Path) -> None:
    """The same bytes under another name; content that was uploaded is never written to, so that a link is enough."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
        _flush(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
