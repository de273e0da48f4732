from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from adapters.training.folders import MAKING_SECONDS, TRAINING, VALIDATION, JobFolders


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_text("um exemplo")
    return path


@pytest.fixture
def folders(tmp_path: Path) -> JobFolders:
    return JobFolders(tmp_path / "kept" / "training")


def test_a_job_keeps_its_data_when_the_file_goes(folders: JobFolders, data: Path) -> None:
    folder = folders.make("ftjob-1", data, data)
    data.unlink()
    assert folder == folders.path("ftjob-1")
    assert [(folder / name).read_text() for name in (TRAINING, VALIDATION)] == ["um exemplo"] * 2
    folders.remove("ftjob-1")
    folders.remove("ftjob-1")
    assert not folder.exists()


def test_where_no_link_can_be_made_the_bytes_are_copied(
    folders: JobFolders, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    folder = folders.make("ftjob-1", data, None)
    assert [path.name for path in folder.iterdir()] == [TRAINING]
    assert (folder / TRAINING).read_text() == "um exemplo"


def test_a_copy_that_fails_leaves_nothing(folders: JobFolders, data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        folders.make("ftjob-1", data, tmp_path / "none")
    assert not folders.path("ftjob-1").exists()


def test_folders_that_no_job_needs_are_swept_unless_they_are_being_made(folders: JobFolders, data: Path) -> None:
    assert folders.sweep(set()) == []
    for job in ("ftjob-1", "ftjob-2"):
        folders.make(job, data, None)
    made = folders.path("ftjob-1").stat().st_ctime
    assert folders.sweep({"ftjob-2"}, clock=lambda: made) == []
    assert folders.sweep({"ftjob-2"}, clock=lambda: made + MAKING_SECONDS + 1) == ["ftjob-1"]
    assert folders.path("ftjob-2").is_dir()
