from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.base_model import BaseModel
from adapters.errors import AdapterRefused
from adapters.manifest import Manifest
from adapters.preflight import check, product_norm

Tensors = dict[str, Any]

FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
A, B = f"{FIRST}.lora_A.weight", f"{FIRST}.lora_B.weight"


def checked(folder: Path, base: BaseModel, max_rank: int = 8) -> Manifest:
    return check(folder, base, max_rank=max_rank, max_bytes=1 << 20)


def test_a_good_adapter_passes_with_its_facts(adapter, base):
    manifest = checked(adapter(), base)
    assert (manifest.rank, manifest.alpha, manifest.dtype, manifest.modules) == (4, 8, "F32", 6)
    assert manifest.target_modules == ("down_proj", "q_proj", "v_proj")
    assert manifest.n_parameters == 2 * 4 * (64 + 64 + 64 + 32 + 64 + 96)
    assert manifest.declared_base == "some/tiny-llama"
    assert manifest.warnings == ()


def renamed(*names: tuple[str, str]) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        for old, new in names:
            tensors = {key.replace(old, new): value for key, value in tensors.items()}
        return tensors

    return change


def with_value(value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[B][3, 1] = value
        return tensors

    return change


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def with_tensor(name: str, *shape: int, dtype: type = np.float32) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: np.ones(shape, dtype)}


def mapped(function: Callable[[str, Any], Any]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: np.ascontiguousarray(function(name, value)) for name, value in tensors.items()}


def cut(factor: float) -> Callable[[Tensors], Tensors]:
    """As if trained on a base of other width."""

    def function(name: str, value: Any) -> Any:
        repeated = np.repeat(value, 2, axis=1 if "lora_A" in name else 0)
        size = int(value.shape[1 if "lora_A" in name else 0] * factor)
        return repeated[:, :size] if "lora_A" in name else repeated[:size]

    return mapped(function)


def transposed_shape(name: str, value: Any) -> Any:
    if name == A:
        return np.ones((4, 96), np.float32)
    return np.ones((32, 4), np.float32) if name == B else value


BROKEN: list[tuple[str, Callable[[Tensors], Tensors], dict[str, Any], str]] = [
    # kind, change of the tensors, change of the config, what the message must hold
    ("nan_weights", with_value(np.nan), {}, "earlier checkpoint"),
    ("inf_weights", with_value(-np.inf), {}, "earlier checkpoint"),
    ("rank_mismatch", dict, {"r": 2}, "set r"),
    ("rank_mismatch", dict, {"rank_pattern": {"q_proj": 2}}, "rank 2, its tensors have rank 4"),
    ("rank_mismatch", mapped(lambda name, value: value[:2] if name == A else value), {}, "lora_B of rank 4"),
    ("rank_zero", dict, {"r": 0}, "rank of 1 or more"),
    ("rank_zero", dict, {"rank_pattern": {"q_proj": -1}}, "rank of 1 or more"),
    ("rank_zero", mapped(lambda name, value: value[:0] if "lora_A" in name else value[:, :0]), {}, "rank 1 or more"),
    ("unknown_modules", renamed(("q_proj", "query")), {}, "it has down_proj"),
    (
        "unknown_modules",
        renamed(("base_model.model.model.", "base_model.model.")),
        {},
        "base_model.model.model.layers.0",
    ),
    ("missing_layers", renamed(("layers.1.", "layers.7.")), {}, "0 to 1"),
    ("smaller_base", cut(0.5), {}, "smaller base"),
    ("larger_base", cut(2), {}, "larger base"),
    ("other_base", mapped(transposed_shape), {}, "another base"),
    ("missing_half", without(B), {}, "no lora_B"),
    ("missing_half", without(A), {}, "no lora_A"),
    ("wrong_peft_type", dict, {"peft_type": "PREFIX_TUNING"}, "LoraConfig"),
    ("wrong_peft_type", dict, {"peft_type": None}, "LoraConfig"),
    ("wrong_task_type", dict, {"task_type": "SEQ_CLS"}, "CAUSAL_LM"),
    ("dora", dict, {"use_dora": True}, "register it with convert"),
    ("dora", with_tensor(f"{FIRST}.lora_magnitude_vector", 64), {}, "register it with convert"),
    ("lora_bias", dict, {"lora_bias": True}, "lora_bias=False"),
    ("lora_bias", dict, {"bias": "all"}, "bias='none'"),
    ("lora_bias", with_tensor(f"{FIRST}.lora_B.bias", 64), {}, "lora_bias=False"),
    ("modules_to_save", dict, {"modules_to_save": ["lm_head"]}, "without modules_to_save"),
    ("modules_to_save", with_tensor("base_model.model.lm_head.weight", 128, 64), {}, "without modules_to_save"),
    (
        "modules_to_save",
        with_tensor("base_model.model.model.embed_tokens.base_layer.weight", 130, 64),
        {},
        "without new tokens",
    ),
    ("trainable_tokens", dict, {"trainable_token_indices": [1, 2]}, "without it"),
    ("target_parameters", dict, {"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_modules"),
    ("nan_alpha", dict, {"lora_alpha": float("nan")}, "trained with"),
    ("nan_alpha", dict, {"lora_alpha": float("inf")}, "trained with"),
    ("nan_alpha", dict, {"lora_alpha": -8}, "trained with"),
    ("nan_alpha", dict, {"alpha_pattern": {"q_proj": 0}}, "trained with"),
    ("alora", dict, {"alora_invocation_tokens": [5, 6]}, "plain LoRA"),
    ("layer_replication", dict, {"layer_replication": [[0, 2], [1, 2]]}, "train without it"),
    ("unsupported_variant", dict, {"use_qalora": True}, "peft.convert_to_lora"),
    ("unsupported_variant", dict, {"use_some_new_thing": True}, "use_some_new_thing"),
    ("unsupported_variant", dict, {"kasa_config": {"beta": 1}}, "kasa_config"),
    ("modified_base", dict, {"init_lora_weights": "pissa"}, "path_initial_model_for_weight_conversion"),
    ("modified_base", dict, {"init_lora_weights": "olora"}, "convert"),
    ("modified_base", dict, {"init_lora_weights": "corda"}, "path_initial_model_for_weight_conversion"),
    ("modified_base", dict, {"init_lora_weights": "loftq"}, "path_initial_model_for_weight_conversion"),
    ("modified_base", dict, {"init_lora_weights": "next-years-idea"}, "gaussian"),
    ("duplicate_tensors", with_tensor(A.removeprefix("base_model.model."), 4, 64), {}, "keep one"),
    ("unknown_tensors", renamed(("lora_A.weight", "lora_A.default.weight")), {}, "save_pretrained"),
    ("unknown_tensors", with_tensor("something_else", 2, 2), {}, "save_pretrained"),
    ("unknown_tensors", with_tensor(f"{'very.' * 60}long.lora_A.weight", 2, 2), {}, "no name of a layer"),
    ("bad_shape", with_tensor(f"{FIRST}2.lora_A.weight", 4, 3, 3), {}, "linear layers only"),
    ("wrong_dtype", mapped(lambda name, value: (value * 100).astype(np.int8)), {}, "BF16"),
    ("no_effect", mapped(lambda name, value: value * 0 if "lora_B" in name else value), {}, "train it"),
    ("no_effect", mapped(lambda name, value: value * 1e-5), {}, "train it"),
    ("empty", lambda tensors: {}, {}, "no LoRA tensors"),
    ("bad_pattern", dict, {"rank_pattern": {"(a+)+": 4}}, "layers.0.self_attn.q_proj"),
    ("bad_pattern", dict, {"rank_pattern": {"(unclosed": 4}}, "layers.0.self_attn.q_proj"),
    ("bad_config", dict, {"r": "four"}, "whole number"),
    ("bad_config", dict, {"r": 1.5}, "whole number"),
    ("bad_config", dict, {"lora_alpha": None}, "number"),
    ("bad_config", dict, {"rank_pattern": [1]}, "map module names"),
    ("bad_config", dict, {"target_modules": {"q_proj": 1}}, "list of names"),
]


@pytest.mark.parametrize(
    ("kind", "change", "config", "remedy"), BROKEN, ids=[f"{i}-{case[0]}" for i, case in enumerate(BROKEN)]
)
def test_a_broken_adapter_is_refused_with_its_kind_and_a_way_out(adapter, base, kind, change, config, remedy):
    with pytest.raises(AdapterRefused) as refused:
        checked(adapter(change, **config), base)
    assert refused.value.kind == kind
    assert remedy in str(refused.value)


def test_there_are_many_kinds():
    assert len({case[0] for case in BROKEN}) >= 24


def test_a_rank_above_the_limit_points_to_conversion(adapter, base):
    with pytest.raises(AdapterRefused, match="register it with convert") as refused:
        checked(adapter(), base, max_rank=2)
    assert refused.value.kind == "rank_above_limit"


def test_a_file_above_the_limit_is_refused(adapter, base):
    with pytest.raises(AdapterRefused) as refused:
        check(adapter(), base, max_rank=8, max_bytes=1000)
    assert refused.value.kind == "too_large"


def test_missing_files_say_what_to_add(adapter, base):
    folder = adapter()
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterRefused, match="save_pretrained") as refused:
        checked(folder, base)
    assert refused.value.kind == "weights_missing"
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterRefused, match="save_pretrained") as refused:
        checked(folder, base)
    assert refused.value.kind == "config_missing"


@pytest.mark.parametrize("text", ["{", "[1]", '"r"', "{}" * 2, "[" * 100_000])
def test_a_config_that_is_no_json_object(adapter, base, text):
    folder = adapter()
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(AdapterRefused) as refused:
        checked(folder, base)
    assert refused.value.kind == "bad_config"


def test_pickle_is_refused_only_where_it_holds_the_weights(adapter, base):
    folder = adapter()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({}))
    checked(folder, base)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterRefused, match="safe_serialization=True") as refused:
        checked(folder, base)
    assert refused.value.kind == "pickle_weights"


def test_the_lora_on_embeddings_passes_only_where_the_engine_applies_it(adapter, base):
    name = "base_model.model.model.embed_tokens.lora_embedding_"

    def change(tensors: Tensors) -> Tensors:
        return {**tensors, f"{name}A": np.ones((4, 128), np.float32), f"{name}B": np.ones((64, 4), np.float32)}

    assert "embed_tokens" in checked(adapter(change), base).target_modules
    with pytest.raises(AdapterRefused, match="without embed_tokens and lm_head") as refused:
        checked(adapter(change), replace(base, embedding_lora=False))
    assert refused.value.kind == "embedding_lora"


def test_a_value_that_overflows_the_bases_dtype_is_infinite_there(adapter, base):
    folder = adapter(with_value(60_000.0))
    checked(folder, base)
    with pytest.raises(AdapterRefused, match="wider dtype") as refused:
        checked(folder, replace(base, dtype="float16"))  # 60,000 fits; times the scale of 2 it does not
    assert refused.value.kind == "inf_weights"


def test_names_without_the_prefix_are_the_same_modules(adapter, base):
    assert checked(adapter(renamed(("base_model.model.", ""))), base).modules == 6


def test_another_bases_name_is_a_warning(adapter, base):
    manifest = checked(adapter(base_model_name_or_path="unsloth/other-name"), base)
    assert "unsloth/other-name" in manifest.warnings[0]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["q_proj", "v_proj", "down_proj", "o_proj"], "o_proj"),
        (["q_proj", "v_proj"], "2 modules have weights"),
        (r".*\.(q_proj|v_proj|down_proj)", None),
        ("all-linear", None),
        (None, None),
    ],
)
def test_the_tensors_decide_which_modules_have_weights(adapter, base, targets, words):
    warnings = checked(adapter(target_modules=targets), base).warnings
    assert (words in warnings[0]) if words else warnings == ()


def test_the_effect_is_the_products_size_beside_the_weight(adapter, base, base_folder):
    from safetensors.numpy import load_file

    folder = adapter()
    tensors, weights = load_file(folder / "adapter_model.safetensors"), load_file(base_folder / "model.safetensors")
    effects = [
        np.linalg.norm(tensors[name.replace("lora_A", "lora_B")] @ tensors[name])
        * (8 / 4)
        / np.linalg.norm(weights[name.removeprefix("base_model.model.").replace("lora_A.", "")])
        for name in tensors
        if "lora_A" in name
    ]
    assert checked(folder, base).effect == pytest.approx(max(effects), rel=1e-5)
    rslora = checked(adapter(use_rslora=True), base)
    assert rslora.effect == pytest.approx(max(effects) * 2, rel=1e-5)  # alpha/√4 is twice alpha/4


def test_without_the_bases_weights_a_usual_size_stands_in(adapter, base):
    bare = replace(base, weights=None)
    assert checked(adapter(), bare).effect > 0.01
    with pytest.raises(AdapterRefused) as refused:
        checked(adapter(mapped(lambda name, value: value * 1e-5)), bare)
    assert refused.value.kind == "no_effect"


def test_the_products_norm_without_the_product():
    rng = np.random.default_rng(1)
    for rank, outputs, inputs in [(1, 5, 7), (8, 6, 5), (16, 40, 30)]:
        b, a = rng.normal(size=(outputs, rank)), rng.normal(size=(rank, inputs))
        assert product_norm(b, a) == pytest.approx(np.linalg.norm(b @ a))


def test_patterns_scale_and_size_their_modules(adapter, base):
    def change(tensors: Tensors) -> Tensors:
        return {
            name: value[:2] if name == A else value[:, :2] if name == B else value for name, value in tensors.items()
        }

    config = {"rank_pattern": {r"layers\.0\.self_attn\.q_proj": 2}, "alpha_pattern": {"mlp.down_proj": 800}}
    plain, patterned = checked(adapter(), base), checked(adapter(change, **config), base)
    assert patterned.rank == 4
    assert patterned.effect > 50 * plain.effect
    assert "down_proj" in patterned.details["most_changed"]


@pytest.mark.parametrize("seed", range(30))
def test_a_file_with_random_damage_is_refused_or_harmless(adapter, base, seed):
    folder = adapter()
    path = folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    header = 8 + int.from_bytes(data[:8], "little")
    for place in rng.integers(0, header, size=3):
        data[place] = rng.integers(0, 256)
    path.write_bytes(data)
    with contextlib.suppress(AdapterRefused):  # and nothing else comes out of it
        checked(folder, base)
