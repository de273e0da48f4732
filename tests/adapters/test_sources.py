from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from adapters.errors import AdapterRefused, SourceNotFound, SourceRefused, SourceTooLarge
from adapters.sources import Sources

FILES = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.fixture
def root(tmp_path: Path, adapter) -> Path:
    """An allowed folder with one adapter in it, called `legal`."""
    folder = tmp_path / "root"
    folder.mkdir()
    adapter().rename(folder / "legal")
    (folder / "legal" / "training_args.bin").write_bytes(b"pickle")
    return folder


@pytest.fixture
def sources(root: Path) -> Sources:
    return Sources((root,), ("memory://bucket/team", "hf://org/"), max_bytes=100_000)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/", "{}/../legal"])
def test_a_folder_in_a_root_gives_exactly_the_two_files(sources, root, into, form):
    sources.stage(form.format(root / "legal"), into)
    assert names(into) == FILES
    assert "inference_mode" not in json.loads((into / "adapter_config.json").read_text())


def test_an_archive_in_a_root(sources, root, into):
    shutil.make_archive(str(root / "packed"), "zip", root / "legal")
    sources.stage(str(root / "packed.zip"), into)
    assert names(into) == FILES


@pytest.mark.parametrize(
    "source",
    [
        "/etc",
        "{root}/../outside",
        "{root}/link",
        "file:///etc/passwd",
        "file://{root}/%2e%2e/outside",
        "FILE:///etc",
        "local:///etc",
        "legal",
        "./legal",
        "",
        "{root}-of-somebody-else/legal",
    ],
)
def test_nothing_outside_the_roots_is_read(sources, root, into, source):
    outside = root.parent / "outside"
    shutil.copytree(root / "legal", outside)
    shutil.copytree(root / "legal", f"{root}-of-somebody-else/legal")
    (root / "link").symlink_to(outside)
    with pytest.raises(SourceRefused, match="MANYHATS_ADAPTER_ROOTS") as refused:
        sources.stage(source.format(root=root), into)
    assert refused.value.kind == "not_allowed"
    assert names(into) == set()


def test_without_roots_no_folder_is_read(root, into):
    with pytest.raises(SourceRefused, match="allowed: none"):
        Sources((), (), 100_000).stage(str(root / "legal"), into)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_links_out_of_the_root_is_refused(sources, root, into, tmp_path, name):
    (root / "legal" / name).rename(tmp_path / "secret")
    (root / "legal" / name).symlink_to(tmp_path / "secret")
    with pytest.raises(SourceRefused) as refused:
        sources.stage(str(root / "legal"), into)
    assert refused.value.kind == "links"
    assert names(into) == set()


def test_links_inside_the_root_are_followed_as_hub_caches_have_them(sources, root, into):
    (root / "blobs").mkdir()
    for name in FILES:
        (root / "legal" / name).rename(root / "blobs" / name)
        (root / "legal" / name).symlink_to(Path("../blobs") / name)
    sources.stage(str(root / "legal"), into)
    assert names(into) == FILES
    assert not any(path.is_symlink() for path in into.iterdir())


def test_a_pipe_neither_blocks_nor_passes(sources, root, into):
    (root / "legal" / "adapter_model.safetensors").unlink()
    os.mkfifo(root / "legal" / "adapter_model.safetensors")
    with pytest.raises(SourceRefused, match="not a plain file"):
        sources.stage(str(root / "legal"), into)


def test_what_is_not_there_is_not_found(sources, root, into):
    with pytest.raises(SourceNotFound, match="there is no"):
        sources.stage(str(root / "ilegal"), into)
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises(SourceNotFound):
        sources.stage(str(root / "circle"), into)
    with pytest.raises(SourceNotFound):
        sources.stage(f"{root}/\0", into)


def test_a_missing_file_and_pickled_weights_are_told(sources, root, into):
    (root / "legal" / "adapter_model.safetensors").rename(root / "legal" / "adapter_model.bin")
    with pytest.raises(AdapterRefused, match="safe_serialization") as refused:
        sources.stage(str(root / "legal"), into)
    assert refused.value.kind == "pickle_weights"
    (root / "legal" / "adapter_model.bin").unlink()
    with pytest.raises(AdapterRefused) as refused:
        sources.stage(str(root / "legal"), into)
    assert refused.value.kind == "weights_missing"


def test_a_folder_above_the_limit_leaves_nothing(root, into):
    with pytest.raises(SourceTooLarge):
        Sources((root,), (), 1000).stage(str(root / "legal"), into)
    assert names(into) == set()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3://models/legal", "not_allowed"),
        ("memory://bucket/teammate/legal", "not_allowed"),
        ("memory://other/team/legal", "not_allowed"),
        ("hf://organisation/legal", "not_allowed"),
        ("hf://org", "bad_url"),
        ("simplecache::memory://bucket/team/legal", "not_allowed"),
        ("memory://bucket/team/a.zip::file:///etc/passwd", "not_allowed"),
        ("zip://legal::memory://bucket/team/a.zip", "not_allowed"),
        ("reference://bucket/team", "not_allowed"),
        ("dir://bucket/team", "not_allowed"),
        ("file://x::/etc", "not_allowed"),
        ("memory://bucket/team/../../etc", "path_escape"),
        ("memory://bucket/team/%2e%2e/other", "path_escape"),
        ("memory://bucket/team/%252e%252e/other", "path_escape"),
        ("memory://bucket/team\\..\\other", "path_escape"),
        ("memory://bucket/team\n/legal", "path_escape"),
        ("memory://user:secret@bucket/team", "credentials"),
        ("memory://bucket@elsewhere/team", "credentials"),
    ],
)
def test_urls_that_lead_elsewhere_are_refused(sources, into, url, kind):
    with pytest.raises(SourceRefused) as refused:
        sources.stage(url, into)
    assert refused.value.kind == kind
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["memory://bucket/team", "memory://bucket/team/", "memory://", "MEMORY://bucket"])
def test_a_prefix_allows_what_lies_below_it(root, into, prefix):
    import fsspec

    fsspec.filesystem("memory").put(str(root / "legal"), "/bucket/team/legal", recursive=True)
    Sources((), (prefix,), 100_000).stage("memory://bucket/team/legal", into)
    assert names(into) == FILES


def test_a_local_url_is_a_path_even_where_a_prefix_names_it(root, into):
    with pytest.raises(SourceRefused):
        Sources((), ("file:///", "local://"), 100_000).stage(f"file://{root}/legal", into)


def test_a_source_can_be_judged_without_fetching(sources):
    sources.check("hf://org/repo@main")
    with pytest.raises(SourceRefused):
        sources.check("hf://other/repo")
