from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from adapters.errors import AdapterRefused
from adapters.factoring import Target
from adapters.manifest import digest
from adapters.mix import METHODS, Ingredient, Recipe, mix
from adapters.peft_config import PeftConfig
from adapters.preflight import check

Q = "model.layers.0.self_attn.q_proj"
MLP = "model.layers.1.mlp.down_proj"
Blend = Callable[..., Path]


def delta(folder: Path, module: str) -> Any:
    config = PeftConfig.read(folder / "adapter_config.json")
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.{module}.lora_{half}.weight"].astype(np.float64) for half in "AB")
    return b @ a * config.scale(module)


def scaled(factor: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Other weights of the same shapes."""
    rng = np.random.default_rng(int(factor * 10))
    return lambda tensors: {
        name: (value + rng.normal(0, 0.1, value.shape)).astype(np.float32) for name, value in tensors.items()
    }


@pytest.fixture
def two(adapter) -> list[Path]:
    """Of other scales; the second without `down_proj`."""

    def fewer(tensors: dict[str, Any]) -> dict[str, Any]:
        return scaled(2)({name: value for name, value in tensors.items() if "down_proj" not in name})

    return [adapter(scaled(1)), adapter(fewer, lora_alpha=3, use_rslora=True)]


def recipe_of(folders: list[Path], weights: list[float], **settings: Any) -> Recipe:
    ingredients = [
        Ingredient(version=folder.name, digest=digest(folder), weight=weight)
        for folder, weight in zip(folders, weights, strict=True)
    ]
    return Recipe(ingredients=tuple(ingredients), **settings)


@pytest.fixture
def blend(tmp_path: Path) -> Blend:
    def run(folders: list[Path], weights: list[float], **settings: Any) -> Path:
        recipe = recipe_of(folders, weights, **settings)
        by_digest = {digest(folder): folder for folder in folders}
        into = tmp_path / f"mixed-{len([*tmp_path.iterdir()])}"
        into.mkdir()
        mix([by_digest[one.digest] for one in recipe.ingredients], into, recipe)
        return into

    return run


def test_a_weighted_sum_is_exact_and_its_ranks_add_up(two, blend, base):
    into = blend(two, [0.7, -0.3])
    for module in (Q, "model.layers.1.self_attn.v_proj"):
        expected = 0.7 * delta(two[0], module) - 0.3 * delta(two[1], module)
        np.testing.assert_allclose(delta(into, module), expected, atol=1e-6)
    np.testing.assert_allclose(delta(into, MLP), 0.7 * delta(two[0], MLP), atol=1e-6)
    assert check(into, base, max_rank=8, max_bytes=1 << 20).rank == 8
    with pytest.raises(AdapterRefused) as refused:
        check(into, base, max_rank=7, max_bytes=1 << 20)
    assert refused.value.kind == "rank_above_limit"


def test_peft_adds_the_same_sum(two, blend, base_folder):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(1, 20)[None]
    ours = blend(two, [0.7, 0.3])
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        answer = PeftModel.from_pretrained(plain, ours)(tokens).logits.numpy()
        theirs = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32), two[0], adapter_name="first"
        )
        for name, weight in (("first", 0.7), ("second", 0.3)):
            if name == "second":
                theirs.load_adapter(two[1], adapter_name="second")
            layers = [layer for layer in theirs.modules() if hasattr(layer, "scale_layer") and name in layer.lora_A]
            for layer in layers:
                layer.scaling[name] *= weight
        theirs.base_model.set_adapter(["first", "second"])
        expected = theirs(tokens).logits.numpy()
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [Target(), Target(rank=2)])
def test_the_order_does_not_matter_and_the_same_is_the_same(two, blend, method, target):
    once = blend(two, [0.7, 0.3], method=method, target=target)
    again = blend(two[::-1], [0.3, 0.7], method=method, target=target)
    assert digest(once) == digest(again)
    assert recipe_of(two, [0.7, 0.3], method=method).digest == recipe_of(two[::-1], [0.3, 0.7], method=method).digest
    other = blend(two, [0.3, 0.7], method=method, target=target)
    assert digest(other) != digest(once)


def test_another_seed_drops_other_entries(two, blend):
    first, second = (blend(two, [1, 1], method="dare_linear", seed=seed) for seed in (0, 1))
    assert digest(first) != digest(second)


def test_ties_is_pefts_on_the_whole_difference(two, blend):
    import torch
    from peft.utils.merge_utils import ties

    ordered = sorted(two, key=digest)
    weights = {digest(two[0]): 0.7, digest(two[1]): 0.3}
    expected = ties(
        [torch.from_numpy(delta(folder, Q)) for folder in ordered],
        torch.tensor([weights[digest(folder)] for folder in ordered], dtype=torch.float64),
        0.4,
    )
    into = blend(two, [0.7, 0.3], method="ties", density=0.4)
    np.testing.assert_allclose(delta(into, Q), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_is_pefts_with_the_same_choice(two, blend, method, monkeypatch):
    import torch
    from peft.utils import merge_utils

    from adapters import mix as module

    masks: list[Any] = []
    dropped = module._dropped

    def remembered(difference: Any, recipe: Recipe, place: str) -> Any:
        kept = dropped(difference, recipe, place)
        if place.startswith(f"{Q} "):
            masks.append((kept != 0).double())
        return kept

    monkeypatch.setattr(module, "_dropped", remembered)
    into = blend(two, [0.7, 0.3], method=method, density=0.4)
    ordered = sorted(two, key=digest)
    chosen = iter(masks)
    monkeypatch.setattr(torch, "bernoulli", lambda *_, **__: next(chosen))  # PEFT's draws, made to be the same
    merged = getattr(merge_utils, method)(
        [torch.from_numpy(delta(folder, Q)) for folder in ordered],
        torch.tensor([{digest(two[0]): 0.7, digest(two[1]): 0.3}[digest(one)] for one in ordered], dtype=torch.float64),
        0.4,
    )
    np.testing.assert_allclose(delta(into, Q), merged.numpy(), atol=1e-5)
    assert all(0.3 < float(mask.mean()) < 0.5 for mask in masks)


def test_dropping_takes_nothing_from_the_process_s_own_chance(two, blend):
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    blend(two, [1, 1], method="dare_ties")
    assert torch.equal(before, torch.get_rng_state())


def test_all_entries_kept_is_a_mean_of_signs_that_agree(two, blend):
    into = blend(two, [1, 1], method="ties", density=1)
    one, other = delta(two[0], Q), delta(two[1], Q)
    agreed = np.sign(one) == np.sign(other)
    np.testing.assert_allclose(delta(into, Q)[agreed], ((one + other) / 2)[agreed], atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "settings"),
    [
        ([0.5, 0], {}),
        ([0.5, math.nan], {}),
        ([1, math.inf], {}),
        ([1, 1], {"density": 0.0}),
        ([1, 1], {"density": 2.0}),
    ],
)
def test_numbers_that_mean_no_mix_are_refused(two, weights, settings):
    with pytest.raises(AdapterRefused) as refused:
        recipe_of(two, weights, **settings)
    assert refused.value.kind == "bad_mix"


def test_one_adapter_is_no_mix(two):
    with pytest.raises(AdapterRefused) as refused:
        recipe_of(two[:1], [1.0])
    assert refused.value.kind == "bad_mix"
