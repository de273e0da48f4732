from __future__ import annotations

from pathlib import Path

import pytest

from server.storage.backup.references import Reference, references, referred
from tests.server.storage.backup.installation import House


def names(house: House) -> set[str]:
    with house.database.read() as connection:
        return {one.name for one in references(connection)}


def test_every_blob_and_every_unfinished_job(house: House) -> None:
    jobs = {f"training/{path.name}" for path in house.training.iterdir()}
    assert len(jobs) == 1
    assert names(house) == {f"blobs/{key}" for key in house.blobs.keys("")} | jobs


def test_what_is_on_its_way_or_over_is_not_referred_to() -> None:
    assert list(referred("files", [{"digest": "d", "complete": False}])) == []
    over = {"id": "ftjob-1", "status": "succeeded", "training": {"digest": "d"}, "validation": None}
    assert list(referred("training_jobs", [over])) == []
    assert list(referred("chunks", [{"id": 1}])) == []


def test_the_files_of_a_job(tmp_path: Path) -> None:
    one = Reference(name="training/ftjob-1", sha256={"training.jsonl": "d"})
    folder = tmp_path / "ftjob-1"
    for name in ("training.jsonl", "other.jsonl", "parent/adapter_config.json", "work/checkpoint-1/model"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with pytest.raises(FileNotFoundError):  # the adapter that it goes on from is being removed, or copied
        one.files(folder)
    (folder / "parent" / "adapter_model.safetensors").touch()
    kept = ["parent/adapter_config.json", "parent/adapter_model.safetensors", "training.jsonl"]
    assert [path.as_posix() for path in one.files(folder)] == kept
    (folder / "training.jsonl").unlink()
    with pytest.raises(FileNotFoundError):
        one.files(folder)


def test_an_adapter_is_intact_by_what_changes_its_answers(house: House) -> None:
    (key,) = house.blobs.keys("adapters/")
    one = Reference(name=f"blobs/{key}")
    folder = house.blobs.path(key)
    assert one.is_intact(folder, {})
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 2', '"base_model_name_or_path": "renamed", "r": 2'))
    assert one.is_intact(folder, {})
    config.write_text(config.read_text().replace('"lora_alpha": 4', '"lora_alpha": 5'))
    assert not one.is_intact(folder, {})
