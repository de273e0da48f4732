"""Checkpoints that are there whole or not at all: written aside, made durable, then given their name.

The trainer writes its files one after the other under the final name, so that a kill in between leaves a folder that
looks like a checkpoint and is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.peft_config import CONFIG_FILE
from adapters.safetensors_file import WEIGHTS_FILE

KEPT = 2
ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE)


class Checkpoints:
    """The last checkpoints of one run, in a folder of their own: `checkpoint-<step>`."""

    def __init__(self, folder: Path, *, kept: int = KEPT) -> None:
        self.folder = folder
        self._kept = kept
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*"):  # of a process that was killed while it wrote
            shutil.rmtree(left)

    def last(self) -> tuple[int, Path] | None:
        """(step, folder) of the newest."""
        return max(self._all(), default=None)

    def path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"

    def drop(self, path: Path) -> None:
        shutil.rmtree(path)

    @contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """The folder to write into; it becomes `checkpoint-<step>` when the block ends well."""
        with whole(self.path(step)) as aside:
            yield aside
        for _, old in sorted(self._all())[: -self._kept]:
            shutil.rmtree(old)

    def _all(self) -> list[tuple[int, Path]]:
        return [(int(path.name.partition("-")[2]), path) for path in self.folder.glob("checkpoint-*")]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into; it takes the name, over an older one, once its files are durable."""
    aside = path.parent / f".{path.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    for file in aside.rglob("*"):
        if file.is_file():
            _sync(file)
    _sync(aside)
    shutil.rmtree(path, ignore_errors=True)
    aside.replace(path)
    _sync(path.parent)


def copy_adapter(checkpoint: Path, to: Path) -> Path:
    """PEFT's two files of a checkpoint, as a folder of their own."""
    with whole(to) as aside:
        for name in ADAPTER_FILES:
            shutil.copyfile(checkpoint / name, aside / name)
    return to


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
