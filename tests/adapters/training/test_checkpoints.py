from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training.checkpoints import Checkpoints, copy_adapter


def keep(checkpoints: Checkpoints, step: int) -> None:
    with checkpoints.writing(step) as folder:
        (folder / "adapter_model.safetensors").write_text(str(step))
        (folder / "adapter_config.json").write_text("{}")
        (folder / "optimizer.pt").write_text("state")


def fail(checkpoints: Checkpoints, step: int) -> None:
    with checkpoints.writing(step) as folder:
        (folder / "adapter_model.safetensors").write_text("half")
        folder.write_text("a folder")


def test_the_last_two_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.last() is None
    for step in (8, 9, 10):
        keep(checkpoints, step)
    assert checkpoints.last() == (10, checkpoints.path(10))  # by number, not by name
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_a_half_written_one_is_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    keep(checkpoints, 1)
    with pytest.raises(IsADirectoryError):
        fail(checkpoints, 2)
    assert checkpoints.last() == (1, checkpoints.path(1))
    again = Checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]  # the rest is swept away
    keep(again, 2)
    assert again.last() == (2, again.path(2))


def test_an_adapter_is_copied_without_the_trainers_state(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    keep(checkpoints, 3)
    for _ in range(2):  # over an older copy
        copied = copy_adapter(checkpoints.path(3), tmp_path / "adapter")
        assert sorted(path.name for path in copied.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "checkpoints"]
