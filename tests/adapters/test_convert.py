from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.base_model import BaseModel
from adapters.convert import convert, nearest, to_plain_lora, truncate
from adapters.errors import AdapterRefused
from adapters.factoring import Target
from adapters.preflight import check

Logits = Callable[[Path], Any]


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def logits(base_folder: Path) -> Logits:
    """Logits of one prompt with an adapter loaded by PEFT over the base, in float64."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def answered(folder: Path) -> Any:
        model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        with torch.no_grad():
            tuned = PeftModel.from_pretrained(model, folder).double()
            return tuned(torch.arange(1, 20)[None]).logits[0].numpy()

    return answered


@pytest.fixture
def trained(base_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """An adapter that PEFT made, trained for a few steps and saved."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    def made(**options: Any) -> Path:
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        config = LoraConfig(
            **{"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "o_proj", "up_proj"], "task_type": "CAUSAL_LM"}
            | options
        )
        tuned = get_peft_model(model, config)
        optimizer = torch.optim.Adam(tuned.parameters(), lr=0.02)
        tokens = torch.randint(0, 128, (2, 16))
        for _ in range(5):
            tuned(tokens, labels=tokens).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        tuned.save_pretrained(tmp_path / "trained")
        return tmp_path / "trained"

    return made


def product(folder: Path, module: str) -> Any:
    """scale·B·A of one module, as PEFT has it; patterns name whole modules here."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.{module}.lora_{half}.weight"].astype(np.float64) for half in "AB")
    escaped = f"^{module}$".replace(".", r"\.")
    rank = config.get("rank_pattern", {}).get(escaped, config["r"])
    alpha = config.get("alpha_pattern", {}).get(escaped, config["lora_alpha"])
    assert rank == a.shape[0]
    return b @ a * alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def test_the_nearest_product_is_that_of_the_singular_values():
    rng = np.random.default_rng(0)
    b, a = rng.normal(size=(20, 8)), rng.normal(size=(8, 30))
    values = np.linalg.svd(b @ a, compute_uv=False)
    for rank in (1, 3, 8):
        new_b, new_a, error = nearest(b, a, rank)
        assert (new_b.shape, new_a.shape) == ((20, rank), (rank, 30))
        expected = np.linalg.norm(values[rank:]) / np.linalg.norm(values)
        assert error == pytest.approx(expected, abs=1e-12)
        assert np.linalg.norm(new_b @ new_a - b @ a) / np.linalg.norm(b @ a) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rslora", [False, True])
def test_the_error_that_is_reported_is_the_error_that_is_there(adapter, base, into, rslora):
    folder = adapter(use_rslora=rslora, lora_alpha=10)
    errors = truncate(folder, into, Target(rank=2))
    assert set(errors) == {module for module in base.modules if module.endswith(("q_proj", "v_proj", "down_proj"))}
    for module, error in errors.items():
        old, new = product(folder, module), product(into, module)
        assert np.linalg.matrix_rank(new, tol=1e-5) == 2
        assert np.linalg.norm(new - old) / np.linalg.norm(old) == pytest.approx(error, rel=1e-4)
        assert 0.1 < error < 1
    assert check(into, base, max_rank=2, max_bytes=1 << 20).rank == 2


def test_ranks_that_hold_nothing_are_cut_without_loss(adapter, base, into, logits):
    def padded(tensors: dict[str, Any]) -> dict[str, Any]:
        return {
            name: np.concatenate([value, value], axis=0 if "lora_A" in name else 1) for name, value in tensors.items()
        }

    folder = adapter(padded, r=8, lora_alpha=8)  # B·A twice, at half the scale of rank 4
    errors = convert(folder, into, base, Target(rank=4)).errors
    assert max(errors.values()) < 1e-6
    np.testing.assert_allclose(logits(into), logits(folder), atol=1e-5)
    np.testing.assert_allclose(logits(into), logits(adapter()), atol=1e-5)


def test_modules_of_several_ranks_and_scales_keep_their_own(base, into, logits, trained):
    folder = trained(rank_pattern={"q_proj": 2}, alpha_pattern={r"layers\.1\.mlp\.up_proj": 30}, use_rslora=True)
    errors = truncate(folder, into, Target(rank=3))
    assert {module for module, error in errors.items() if error == 0} == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
    }
    assert check(into, base, max_rank=3, max_bytes=1 << 20).rank == 3
    whole = into.parent / "whole"
    whole.mkdir()
    truncate(folder, whole, Target(rank=4))
    np.testing.assert_allclose(logits(whole), logits(folder), atol=1e-5)


def test_the_difference_of_the_answers_falls_with_the_rank(trained, logits, tmp_path):
    folder = trained(r=8)
    differences = []
    for rank in (1, 4, 8):
        (tmp_path / f"rank-{rank}").mkdir()
        truncate(folder, tmp_path / f"rank-{rank}", Target(rank=rank))
        differences.append(float(np.abs(logits(tmp_path / f"rank-{rank}") - logits(folder)).max()))
    assert differences[0] > differences[1] > differences[2]
    assert differences[2] < 1e-5


@pytest.mark.filterwarnings("ignore:Using Rank-Stabilized LoRA")  # PEFT cannot convert that one itself
@pytest.mark.parametrize(
    ("init", "options"), [("olora", {}), ("pissa", {"use_rslora": True, "rank_pattern": {"q_proj": 2}})]
)
def test_an_adapter_on_changed_base_weights_becomes_a_plain_one(base, into, trained, logits, init, options):
    folder = trained(init_lora_weights=init, **options)
    with pytest.raises(AdapterRefused):
        check(folder, base, max_rank=64, max_bytes=1 << 20)
    errors = convert(folder, into, base, Target()).errors
    assert max(errors.values()) == 0
    assert check(into, base, max_rank=8, max_bytes=1 << 20).rank == 8
    plain, original = logits(into), logits(folder)  # PEFT changes the base again for the second
    np.testing.assert_allclose(plain, original, atol=2e-5)
    without = load_file(folder / "adapter_model.safetensors")
    save_file({name: value * 0 for name, value in without.items()}, folder / "adapter_model.safetensors")
    assert np.abs(plain - logits(folder)).max() > 0.01  # the comparison could have failed


def test_a_plain_one_of_lower_rank_reports_what_it_lost(base, into, trained):
    folder = trained(init_lora_weights="pissa")
    exact = into.parent / "exact"
    exact.mkdir()
    to_plain_lora(folder, exact, base, Target())
    errors = to_plain_lora(folder, into, base, Target(rank=4))
    for module, error in errors.items():
        old, new = product(exact, module), product(into, module)
        assert np.linalg.norm(new - old) / np.linalg.norm(old) == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("init", ["pissa_niter_4", "corda", "loftq"])
def test_what_cannot_be_repeated_is_refused_with_the_way_out(adapter, base, into, init):
    with pytest.raises(AdapterRefused, match="path_initial_model_for_weight_conversion") as refused:
        convert(adapter(init_lora_weights=init), into, base, Target())
    assert refused.value.kind == "modified_base"


def test_without_the_bases_weights_nothing_is_guessed(adapter, base, into):
    bare = BaseModel(modules=base.modules, name="x", fingerprint="", context_tokens=64)
    with pytest.raises(AdapterRefused, match="not at hand"):
        to_plain_lora(adapter(init_lora_weights="pissa"), into, bare, Target())


@pytest.mark.parametrize(
    ("config", "kind"), [({"bias": "all"}, "lora_bias"), ({"r": 3}, "rank_mismatch"), ({"lora_alpha": -1}, "nan_alpha")]
)
@pytest.mark.parametrize("init", [True, "pissa"])
def test_conversion_does_not_hide_what_is_wrong(adapter, base, into, config, kind, init):
    with pytest.raises(AdapterRefused) as refused:
        convert(adapter(init_lora_weights=init, **config), into, base, Target(rank=2))
    assert refused.value.kind == kind


def test_weights_that_are_not_finite_are_refused_before_they_are_decomposed(adapter, into):
    def broken(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: value * np.nan for name, value in tensors.items()}

    with pytest.raises(AdapterRefused) as refused:
        truncate(adapter(broken), into, Target(rank=2))
    assert refused.value.kind == "nan_weights"


def test_a_rank_of_zero_leaves_nothing(adapter, into):
    with pytest.raises(AdapterRefused) as refused:
        truncate(adapter(), into, Target(rank=0))
    assert refused.value.kind == "rank_zero"
