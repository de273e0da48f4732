"""A soft prompt that fits passes with its facts; every other is refused with a kind and a way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters import soft_prompt
from adapters.base_model import BaseModel
from adapters.errors import AdapterRefused
from adapters.manifest import Manifest, digest
from adapters.preflight import check

HIDDEN = 64
N_TOKENS = 4

Tensors = dict[str, Any]
MakePrompt = Callable[..., Path]


@pytest.fixture
def prompt(tmp_path: Path) -> MakePrompt:
    """Write a soft prompt as peft does, with other tensors or config fields where asked."""
    made: list[Path] = []

    def make(tensors: Tensors | None = None, **config: Any) -> Path:
        folder = tmp_path / f"prompt-{len(made)}"
        folder.mkdir()
        made.append(folder)
        vectors = np.random.default_rng(0).normal(0, 0.1, (N_TOKENS, HIDDEN)).astype(np.float32)
        save_file({"prompt_embeddings": vectors} if tensors is None else tensors, folder / "adapter_model.safetensors")
        fields = {
            "peft_type": "PROMPT_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "some/tiny-llama",
            "num_virtual_tokens": N_TOKENS,
            "token_dim": HIDDEN,
            "num_transformer_submodules": 1,
            "num_layers": 2,
            "num_attention_heads": 4,
            "prompt_tuning_init": "RANDOM",
            "modules_to_save": None,
            **config,
        }
        (folder / "adapter_config.json").write_text(json.dumps(fields))
        return folder

    return make


def checked(folder: Path, base: BaseModel, *, allowed: bool = True, max_bytes: int = 1 << 20) -> Manifest:
    return check(folder, base, max_rank=8, max_bytes=max_bytes, prompt_tuning=allowed)


def vectors(*shape: int, value: float = 0.1, dtype: type = np.float32) -> Tensors:
    return {"prompt_embeddings": np.full(shape, value, dtype)}


def test_a_good_prompt_passes_with_its_facts(prompt: MakePrompt, base: BaseModel) -> None:
    manifest = checked(prompt(), base)
    assert (manifest.rank, manifest.modules, manifest.n_parameters, manifest.dtype) == (0, 0, 256, "F32")
    assert manifest.details == {"kind": "prompt_tuning", "n_virtual_tokens": N_TOKENS}
    assert manifest.declared_base == "some/tiny-llama"


def test_its_size_is_told_beside_the_base_s_token_vectors(prompt: MakePrompt, base: BaseModel) -> None:
    """The tiny base was made with a deviation of 0.02."""
    assert checked(prompt(vectors(N_TOKENS, HIDDEN, value=0.2)), base).effect == pytest.approx(10, rel=0.1)


def test_what_is_read_is_what_was_saved(prompt: MakePrompt) -> None:
    saved = np.arange(N_TOKENS * HIDDEN, dtype=np.float32).reshape(N_TOKENS, HIDDEN)
    np.testing.assert_array_equal(soft_prompt.read(prompt({"prompt_embeddings": saved})), saved)


def test_switched_off_it_is_refused_by_the_setting_s_name(prompt: MakePrompt, base: BaseModel) -> None:
    with pytest.raises(AdapterRefused, match="MANYHATS_PROMPT_TUNING=true") as caught:
        checked(prompt(), base, allowed=False)
    assert caught.value.kind == "prompt_tuning_off"


@pytest.mark.parametrize(
    ("kind", "tensors", "config"),
    [
        ("smaller_base", vectors(N_TOKENS, 32), {"token_dim": 32}),
        ("larger_base", vectors(N_TOKENS, 128), {"token_dim": 128}),
        ("larger_base", vectors(N_TOKENS, 128), {"token_dim": None}),
        ("bad_shape", vectors(N_TOKENS, 128), {}),
        ("bad_shape", vectors(N_TOKENS + 1, HIDDEN), {}),
        ("bad_shape", vectors(N_TOKENS * HIDDEN), {}),
        ("bad_shape", vectors(N_TOKENS, HIDDEN, 1), {}),
        ("bad_shape", vectors(N_TOKENS, 0), {"token_dim": None}),
        ("nan_weights", vectors(N_TOKENS, HIDDEN, value=np.nan), {}),
        ("inf_weights", vectors(N_TOKENS, HIDDEN, value=np.inf), {}),
        ("no_effect", vectors(N_TOKENS, HIDDEN, value=0), {}),
        ("wrong_dtype", vectors(N_TOKENS, HIDDEN, value=1, dtype=np.int32), {}),
        ("unknown_tensors", {**vectors(N_TOKENS, HIDDEN), "lm_head.weight": np.ones((2, 2), np.float32)}, {}),
        ("empty", {}, {}),
        ("too_many_virtual_tokens", vectors(33, HIDDEN), {"num_virtual_tokens": 33}),  # the base has room for 64
        ("bad_config", None, {"num_virtual_tokens": None}),
        ("bad_config", None, {"num_virtual_tokens": 0}),
        ("bad_config", None, {"num_virtual_tokens": True}),
        ("bad_config", None, {"num_virtual_tokens": "4"}),
        ("bad_config", None, {"token_dim": -1}),
        ("bad_config", None, {"num_transformer_submodules": 2}),
        ("wrong_task_type", None, {"task_type": "SEQ_CLS"}),
        ("modules_to_save", None, {"modules_to_save": ["lm_head"]}),
    ],
)
def test_a_broken_prompt_is_refused_with_its_kind(
    prompt: MakePrompt, base: BaseModel, kind: str, tensors: Tensors | None, config: dict[str, Any]
) -> None:
    with pytest.raises(AdapterRefused) as caught:
        checked(prompt(tensors, **config), base)
    assert caught.value.kind == kind


def test_no_prompt_has_more_than_256_virtual_tokens(prompt: MakePrompt, base: BaseModel) -> None:
    from dataclasses import replace

    roomy = replace(base, context_tokens=100_000)
    assert checked(prompt(vectors(256, HIDDEN), num_virtual_tokens=256), roomy).details["n_virtual_tokens"] == 256
    with pytest.raises(AdapterRefused, match="up to 256"):
        checked(prompt(vectors(257, HIDDEN), num_virtual_tokens=257), roomy)


def test_a_file_above_the_limit_is_refused(prompt: MakePrompt, base: BaseModel) -> None:
    with pytest.raises(AdapterRefused) as caught:
        checked(prompt(), base, max_bytes=100)
    assert caught.value.kind == "too_large"


@pytest.mark.parametrize("peft_type", ["P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING"])
def test_its_relatives_are_not_served(prompt: MakePrompt, base: BaseModel, peft_type: str) -> None:
    with pytest.raises(AdapterRefused) as caught:
        checked(prompt(peft_type=peft_type), base)
    assert caught.value.kind == "wrong_peft_type"


def test_how_it_was_begun_does_not_make_another_version(prompt: MakePrompt) -> None:
    same = {digest(prompt()), digest(prompt(prompt_tuning_init="TEXT", base_model_name_or_path="renamed"))}
    assert len(same) == 1
    assert digest(prompt(vectors(N_TOKENS, HIDDEN))) not in same
