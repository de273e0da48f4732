"""Each kind that PEFT makes, converted, against PEFT's own answers with the original: on the demo's base."""

from __future__ import annotations

import copy
import gc
import json
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.base_model import BaseModel, BaseWeights
from adapters.convert import convert
from adapters.differences import differences
from adapters.errors import AdapterRefused
from adapters.factoring import Converted, Target
from adapters.peft_config import CONVERTIBLE
from adapters.preflight import check

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT's, of several kinds

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "base"
TARGETS = ("model.layers.0.self_attn.q_proj", "model.layers.3.mlp.down_proj")
PROMPT = range(5, 60)

KINDS: dict[str, dict[str, Any]] = {
    "ADALORA": {"init_r": 6, "target_r": 4, "total_step": 10},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 64},
    "DEFT": {},
    "DELORA": {"r": 4},
    "FOURIERFT": {"n_frequency": 200},
    "GRALORA": {"r": 8, "gralora_k": 2},
    "HIRA": {"r": 4},
    "HRA": {"r": 4},
    "IA3": {"feedforward_modules": [TARGETS[1]]},
    "LOHA": {"r": 4},
    "LOKR": {"r": 4},
    "LORA": {"r": 4, "lora_alpha": 8, "use_dora": True},
    "MISS": {"r": 8},
    "OFT": {"oft_block_size": 16},
    "PVERA": {"r": 8},
    "RANDLORA": {"r": 8},
    "ROAD": {},
    "SHIRA": {"r": 4},
    "VBLORA": {"num_vectors": 16, "vector_length": 64, "r": 2, "topk": 2},
    "VERA": {"r": 8},
    "WAVEFT": {"n_frequency": 200},
}

Made = Callable[..., Path]
Answered = Callable[..., tuple[Any, list[int]]]


@pytest.fixture(scope="module")
def demo() -> BaseModel:
    return BaseModel.read(DEMO)


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()


@pytest.fixture
def made(model: Any, tmp_path: Path) -> Made:
    """An adapter of that kind with random weights, as PEFT saves it."""
    import torch
    from peft import get_peft_model
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    def make(kind: str, **options: Any) -> Path:
        torch.manual_seed(1)
        config = PEFT_TYPE_TO_CONFIG_MAPPING[kind](
            **{"task_type": "CAUSAL_LM", "target_modules": list(TARGETS)} | KINDS.get(kind, {}) | options
        )
        tuned = get_peft_model(copy.deepcopy(model), config)
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.data += torch.randn_like(parameter) * 0.05
        tuned.save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return make


@pytest.fixture
def answered(model: Any) -> Answered:
    """Logits of one prompt, and the tokens that follow greedily, by PEFT's own forward pass."""
    import torch
    from peft import PeftModel

    def answer(folder: Path | None, own: Any = None) -> tuple[Any, list[int]]:
        served = own or copy.deepcopy(model)
        if folder is not None:
            served = PeftModel.from_pretrained(served, folder)
        tokens = list(PROMPT)
        with torch.no_grad():
            logits = served.eval()(torch.tensor([tokens])).logits[0]
            for _ in range(6):
                tokens.append(int(served(torch.tensor([tokens])).logits[0, -1].argmax()))
        return logits.numpy(), tokens[len(PROMPT) :]

    return answer


@pytest.fixture
def converted(demo: BaseModel, tmp_path: Path) -> Callable[..., tuple[Path, Converted]]:
    def run(folder: Path, base: BaseModel = demo, **target: Any) -> tuple[Path, Converted]:
        into = tmp_path / f"into-{len([*tmp_path.iterdir()])}"
        into.mkdir()
        return into, convert(folder, into, base, Target(**target))

    return run


def test_every_kind_that_is_offered_is_tried_here():
    assert set(KINDS) == set(CONVERTIBLE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_adapter_answers_as_the_original(kind, made, answered, converted, demo):
    folder = made(kind)
    into, facts = converted(folder)
    assert facts.kind == ("DORA" if kind == "LORA" else kind)
    assert set(facts.errors) == set(TARGETS)
    assert max(facts.errors.values()) < 1e-6
    manifest = check(into, demo, max_rank=1024, max_bytes=1 << 30)
    assert manifest.modules == len(TARGETS)
    logits, tokens = answered(folder)
    plain_logits, plain_tokens = answered(into)
    untouched, _ = answered(None)
    effect = np.abs(logits - untouched).max()
    assert effect > 0.004  # the comparison could have failed
    # rounding grows with what an adapter does to the layers after it, some of whose heads attend sharply
    np.testing.assert_allclose(plain_logits, logits, atol=max(5e-4, effect / 1000))
    assert plain_tokens == tokens


@pytest.mark.parametrize("kind", ["LORA", "IA3", "OFT"])
def test_the_error_falls_with_the_rank_and_is_the_one_reported(kind, made, converted, demo):
    folder = made(kind)
    whole = differences(folder, demo)
    last = dict.fromkeys(TARGETS, 1.0)
    for rank in (2, 8, 32):
        into, facts = converted(folder, rank=rank)
        tensors = load_file(into / "adapter_model.safetensors")
        for module in TARGETS:
            a, b = (tensors[f"base_model.model.{module}.lora_{half}.weight"].astype(np.float64) for half in "AB")
            assert a.shape[0] == rank
            wanted = whole.of(module)
            there = np.linalg.norm(wanted - b @ a) / np.linalg.norm(wanted)
            assert facts.errors[module] == pytest.approx(there, rel=1e-3)
            assert facts.errors[module] < last[module]
        last = dict(facts.errors)


@pytest.mark.parametrize("error", [0.5, 0.2, 0.01])
def test_a_wanted_error_is_met_with_the_least_rank(made, converted, demo, error):
    folder = made("LORA")
    into, facts = converted(folder, error=error)
    config = json.loads((into / "adapter_config.json").read_text())
    tensors = load_file(into / "adapter_model.safetensors")
    whole = differences(folder, demo)
    for module in TARGETS:
        assert facts.errors[module] <= error
        rank = tensors[f"base_model.model.{module}.lora_A.weight"].shape[0]
        key = f"^{module}$".replace(".", r"\.")
        assert config.get("rank_pattern", {}).get(key, config["r"]) == rank
        values = np.linalg.svd(whole.of(module), compute_uv=False)
        if rank > 1:
            assert np.linalg.norm(values[rank - 1 :]) / np.linalg.norm(values) > error


def test_a_wanted_error_cuts_a_plain_lora_too(made, converted):
    folder = made("LORA", use_dora=False, r=8)
    _, facts = converted(folder, error=0.6)
    assert facts.kind == "LORA"
    assert all(0.01 < lost <= 0.6 for lost in facts.errors.values())


def test_without_a_wish_it_is_as_near_as_the_server_takes(made, converted):
    _, facts = converted(made("OFT"), limit=16)
    assert all(0 < lost < 1 for lost in facts.errors.values())
    with pytest.raises(AdapterRefused, match="allow a larger error") as refused:
        converted(made("OFT"), error=1e-4, limit=16)
    assert refused.value.kind == "rank_above_limit"


def test_a_fine_tuned_checkpoint_becomes_a_lora(model, answered, converted, tmp_path):
    import torch

    tuned = copy.deepcopy(model)
    torch.manual_seed(2)
    for name in TARGETS:
        weight = tuned.get_submodule(name).weight
        weight.data += torch.randn_like(weight) * 0.01
    logits, tokens = answered(None, own=tuned)
    tuned.save_pretrained(tmp_path / "tuned")
    into, facts = converted(tmp_path / "tuned")
    assert (facts.kind, set(facts.errors), dict(facts.left_out)) == ("CHECKPOINT", set(TARGETS), {})
    plain_logits, plain_tokens = answered(into)
    np.testing.assert_allclose(plain_logits, logits, atol=2e-4)
    assert plain_tokens == tokens
    assert np.abs(logits - answered(None)[0]).max() > 0.01


def test_what_of_a_checkpoint_is_left_out_is_told(model, converted, tmp_path):
    tuned = copy.deepcopy(model)
    tuned.get_submodule(TARGETS[0]).weight.data += 0.01
    tuned.model.norm.weight.data *= 1.5
    tuned.save_pretrained(tmp_path / "tuned")
    _, facts = converted(tmp_path / "tuned")
    assert facts.left_out == {"model.norm.weight": pytest.approx(0.5, abs=0.01)}


def test_the_same_weights_are_nothing_to_convert(converted):
    with pytest.raises(AdapterRefused) as refused:
        converted(DEMO)
    assert refused.value.kind == "no_effect"


def test_a_checkpoint_of_another_base_is_refused(converted, base_folder):
    with pytest.raises(AdapterRefused) as refused:
        converted(base_folder)
    assert refused.value.kind == "other_base"


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("IA3", {"peft_type": "PROMPT_TUNING"}, "wrong_peft_type"),
        ("IA3", {"peft_type": "LN_TUNING"}, "wrong_peft_type"),
        ("IA3", {"task_type": "SEQ_CLS"}, "wrong_task_type"),
        ("OFT", {"bias": "all"}, "lora_bias"),
        ("LORA", {"bias": "lora_only"}, "lora_bias"),
        ("LOHA", {"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ("LORA", {"trainable_token_indices": [1]}, "trainable_tokens"),
        ("LORA", {"alora_invocation_tokens": [1]}, "alora"),
        ("LORA", {"init_lora_weights": "pissa"}, "modified_base"),
        ("LOHA", {"rank_pattern": {"(a+)+": 2}}, "bad_pattern"),
        ("LOHA", {"r": 1_000_000_000}, "rank_mismatch"),
        ("LOHA", {"r": 3}, "not_convertible"),
        ("LOHA", {"peft_type": "LOKR"}, "unknown_tensors"),
    ],
)
def test_what_is_no_difference_of_weights_stays_refused(made, converted, kind, change, expected):
    folder = made(kind)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(AdapterRefused) as refused:
        converted(folder)
    assert refused.value.kind == expected
    assert len(str(refused.value)) > 40


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base_model.model.model.embed_tokens.hada_w1_a", "embedding_lora"),
        ("base_model.model.model.layers.9.mlp.up_proj.hada_w1_a", "unknown_modules"),
        ("base_model.model.lm_head.weight", "modules_to_save"),
        (f"base_model.model.{TARGETS[0]}.more", "unknown_tensors"),
    ],
)
def test_tensors_that_belong_nowhere_are_refused(made, converted, name, expected):
    folder = made("LOHA")
    weights = folder / "adapter_model.safetensors"
    save_file({**load_file(weights), name: np.ones((4, 4), dtype=np.float32)}, weights)
    with pytest.raises(AdapterRefused) as refused:
        converted(folder)
    assert refused.value.kind == expected


def test_a_missing_tensor_is_refused(made, converted):
    folder = made("LOHA")
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    tensors.pop(f"base_model.model.{TARGETS[0]}.hada_w2_b")
    save_file(tensors, weights)
    with pytest.raises(AdapterRefused, match="hada_w2_b") as refused:
        converted(folder)
    assert refused.value.kind == "missing_half"


def test_weights_that_are_not_finite_are_refused(made, converted):
    folder = made("LOHA")
    weights = folder / "adapter_model.safetensors"
    save_file({name: value * np.nan for name, value in load_file(weights).items()}, weights)
    with pytest.raises(AdapterRefused) as refused:
        converted(folder)
    assert refused.value.kind == "nan_weights"


def test_a_base_whose_weights_are_not_here_is_told(made, converted, demo):
    bare = BaseModel(modules=demo.modules, name="demo", fingerprint="", context_tokens=64)
    with pytest.raises(AdapterRefused, match="not on this machine unquantized") as refused:
        converted(made("OFT"), bare)
    assert refused.value.kind == "no_base_weights"


def test_a_bias_that_would_be_scaled_is_refused(made, converted, demo, monkeypatch):
    monkeypatch.setattr(BaseModel, "has_bias", lambda *_: True)
    with pytest.raises(AdapterRefused, match="bias") as refused:
        converted(made("IA3", feedforward_modules=[]))
    assert refused.value.kind == "lora_bias"
    converted(made("IA3", target_modules=[TARGETS[1]]))  # scales what goes in: the bias stays as it is


def test_layers_that_lie_the_other_way_round_are_refused(made, converted, demo):
    from dataclasses import replace

    with pytest.raises(AdapterRefused, match="Conv1D") as refused:
        converted(made("OFT"), replace(demo, transposed=frozenset(TARGETS)))
    assert refused.value.kind == "not_convertible"


def test_which_layers_lie_the_other_way_round_is_known():
    from transformers import GPT2Config

    from adapters import base_facts

    found = base_facts._layers(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32))
    assert found.transposed == set(found.modules) - {"lm_head"}


def test_one_module_is_in_memory_at_a_time(tmp_path, converted, monkeypatch):
    width, n_layers = 256, 12
    base_folder, tuned_folder = tmp_path / "wide", tmp_path / "wide-tuned"
    rng = np.random.default_rng(0)
    modules = [f"model.layers.{i}.mlp.up_proj" for i in range(n_layers)]
    for folder in (base_folder, tuned_folder):
        folder.mkdir()
        weights = {f"{module}.weight": rng.normal(size=(width, width)).astype(np.float32) for module in modules}
        save_file(weights, folder / "model.safetensors")
    base = BaseModel(
        name="wide",
        modules=dict.fromkeys(modules, (width, width)),
        fingerprint="",
        context_tokens=64,
        weights=BaseWeights(base_folder, {}),
    )
    read, alive, most = BaseWeights.matrix, [], [0]

    def counted(self: BaseWeights, module: str) -> Any:
        matrix = read(self, module)
        alive.append(weakref.ref(matrix))
        most[0] = max(most[0], len([one for one in alive if one() is not None]))
        return matrix

    monkeypatch.setattr(BaseWeights, "matrix", counted)
    gc.collect()
    tracemalloc.start()
    _, facts = converted(tuned_folder, base, rank=4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(facts.errors), len(alive)) == (n_layers, 2 * n_layers)
    assert most[0] <= 2  # one module's own weight and the tuned one
    one_module = 8 * width * width
    assert peak < 8 * one_module < 2 * n_layers * one_module // 2
