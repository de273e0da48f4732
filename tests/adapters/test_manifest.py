from __future__ import annotations

import json
import shutil
import tarfile
import zipfile

from adapters.manifest import digest
from adapters.sources import Sources


def test_folder_zip_tar_and_hub_copy_are_one_version(adapter, tmp_path):
    import fsspec

    folder = adapter()
    (folder / "README.md").write_text("not part of it")
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname="legal")
    hub = fsspec.filesystem("memory")
    hub.put(str(folder), "/hub/legal", recursive=True)

    sources = Sources((tmp_path,), ("memory://hub/",), 1 << 20)
    places = [str(folder), str(tmp_path / "packed.zip"), str(tmp_path / "packed.tar.gz"), "memory://hub/legal"]
    digests = {digest(folder)}
    for number, place in enumerate(places):
        sources.stage(place, tmp_path / f"into-{number}")
        digests.add(digest(tmp_path / f"into-{number}"))
    assert len(digests) == 1


def test_what_does_not_change_the_answer_does_not_change_the_digest(adapter):
    one = adapter()
    two = adapter(
        base_model_name_or_path="renamed/base", lora_dropout=0.3, target_modules=["v_proj", "down_proj", "q_proj"]
    )
    assert digest(one) == digest(two)


def test_what_changes_the_answer_changes_the_digest(adapter):
    def other(tensors):
        name = next(iter(tensors))
        return {**tensors, name: tensors[name] * 2}

    folders = [adapter(), adapter(lora_alpha=9), adapter(use_rslora=True), adapter(alpha_pattern={"q_proj": 4})]
    assert len({digest(folder) for folder in [*folders, adapter(other)]}) == 5


def test_zip_order_and_names_do_not_count(adapter, tmp_path):
    folder = adapter()
    names = ["adapter_model.safetensors", "adapter_config.json"]
    config = json.dumps(json.loads((folder / names[1]).read_text()), indent=7, sort_keys=True)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(folder / names[0], f"some-name/{names[0]}")
        archive.writestr(f"some-name/{names[1]}", config)
    Sources((), (), 1 << 20).stage_archive(tmp_path / "a.zip", tmp_path / "into")
    assert digest(tmp_path / "into") == digest(folder)
