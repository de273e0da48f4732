"""What transformers said of a base is kept, and is asked for anew where anything that decides has changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from adapters import base_facts
from adapters.base_model import BaseModel


@pytest.fixture
def folder(base_folder, tmp_path):
    return shutil.copytree(base_folder, tmp_path / "model")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def built(monkeypatch):
    """The models that transformers was asked about."""
    asked = []
    build = base_facts._built
    monkeypatch.setattr(base_facts, "_built", lambda model: asked.append(model) or build(model))
    return asked


def test_a_second_start_asks_nothing_and_knows_the_same(folder, cache, built):
    first = BaseModel.read(folder, cache=cache)
    again = BaseModel.read(folder, cache=cache)
    assert again == first == BaseModel.read(folder)
    assert again.norm("lm_head") == first.norm("lm_head")
    assert len(built) == 2
    assert [path.suffix for path in cache.iterdir()] == [".json"]


def test_a_second_start_imports_neither_torch_nor_transformers(folder, cache):
    BaseModel.read(folder, cache=cache)
    code = (
        "import sys; from pathlib import Path; from adapters.base_model import BaseModel;"
        f"BaseModel.read(Path({str(folder)!r}), cache=Path({str(cache)!r}));"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_configuration_is_read_anew(folder, cache, built):
    before = BaseModel.read(folder, cache=cache)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert BaseModel.read(folder, cache=cache).fingerprint != before.fingerprint
    assert len(built) == 2


def test_other_packages_ask_anew(folder, cache, built, monkeypatch):
    BaseModel.read(folder, cache=cache)
    monkeypatch.setattr(base_facts.importlib.metadata, "version", lambda name: "0")
    BaseModel.read(folder, cache=cache)
    assert len(built) == 2


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"modules": {"a": [1]}}', b"\xff"])
def test_what_is_damaged_is_made_anew(folder, cache, damage):
    whole = BaseModel.read(folder, cache=cache)
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)
    assert BaseModel.read(folder, cache=cache) == whole
    assert kept.stat().st_size > len(damage)


def test_a_disk_that_refuses_only_costs_time(folder, tmp_path, built):
    (tmp_path / "file").write_bytes(b"")
    assert BaseModel.read(folder, cache=tmp_path / "file" / "cache").modules
    assert len(built) == 1
