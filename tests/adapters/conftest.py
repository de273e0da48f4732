from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.base_model import BaseModel
from adapters.manifest import Manifest
from adapters.registry import Registry
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

Tensors = dict[str, Any]
ChangeTensors = Callable[[Tensors], Tensors]
MakeAdapter = Callable[..., Path]
Stage = Callable[[str], tuple[Path, Manifest]]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def registry(database: Database, blobs: LocalBlobs) -> Registry:
    clock = itertools.count(1_000.0)
    return Registry(
        database,
        blobs,
        base_name="demo",
        base_fingerprint="f" * 64,
        reserved=lambda name: name in {"demo", "embedder"},
        clock=lambda: next(clock),
        max_pins=2,
    )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Make a folder with two files, and a manifest as the preflight would give it; the same word, the same bytes."""
    count = itertools.count()

    def made(word: str) -> tuple[Path, Manifest]:
        folder = tmp_path / f"staged-{next(count)}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"r": 8}')
        (folder / "adapter_model.safetensors").write_text(word)
        manifest = Manifest(
            digest=hashlib.sha256(word.encode()).hexdigest(),
            rank=8,
            alpha=16.0,
            use_rslora=False,
            target_modules=("q_proj", "v_proj"),
            n_parameters=1024,
            size_bytes=len(word),
            dtype="F32",
            declared_base="some/base",
            warnings=("made for 'some/base'",),
            effect=0.25,
            modules=8,
            details={"conversion": {"rank": 8}},
        )
        return folder, manifest

    return made


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights, saved as transformers saves it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base") / "tiny-llama"
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    LlamaForCausalLM(LlamaConfig(**shape, **heads)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(base_folder: Path) -> BaseModel:
    return BaseModel.read(base_folder)


@pytest.fixture
def adapter(tmp_path: Path, base: BaseModel) -> MakeAdapter:
    """Write an adapter that fits the base, with changes to its config and to its tensors."""
    count = itertools.count()

    def made(change: ChangeTensors = dict, **config: Any) -> Path:
        folder = tmp_path / f"adapter-{next(count)}"
        folder.mkdir()
        rng = np.random.default_rng(0)
        tensors = {}
        for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"):
            for layer in range(2):
                outputs, inputs = base.modules[f"model.layers.{layer}.{name}"]
                key = f"base_model.model.model.layers.{layer}.{name}"
                tensors[f"{key}.lora_A.weight"] = rng.normal(0, 0.1, (4, inputs)).astype(np.float32)
                tensors[f"{key}.lora_B.weight"] = rng.normal(0, 0.1, (outputs, 4)).astype(np.float32)
        save_file(change(tensors), folder / "adapter_model.safetensors")
        fields = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "some/tiny-llama",
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "bias": "none",
            "inference_mode": True,
            **config,
        }
        (folder / "adapter_config.json").write_text(json.dumps(fields))
        return folder

    return made
