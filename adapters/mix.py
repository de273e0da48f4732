"""Several adapters with weights made into one: exactly for a weighted sum, by TIES or DARE otherwise.

linear     Σ wᵢ·ΔWᵢ, as [w₁s₁B₁ … ] · [A₁; …]: exact, and the ranks add up
ties       the largest entries of each ΔWᵢ, then only those of the sign that most of the mass has
dare_*     random entries of each ΔWᵢ, scaled up for those that were dropped; then summed, or as TIES does

TIES and DARE work on the whole ΔW = s·B·A, one module at a time, and the result is cut by SVD, as PEFT's
add_weighted_adapter does with combination_type="ties_svd". On the factors themselves (its "ties") the answer would
depend on how each training happened to split ΔW into B and A: ΔW = (B·R)·(R⁻¹·A) for any R.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from adapters import factoring
from adapters.errors import AdapterRefused
from adapters.factoring import Converted, Target
from adapters.lora_weights import LoraWeights, Pair
from adapters.peft_config import CONFIG_FILE, PeftConfig
from adapters.preflight import open_weights

Matrix = NDArray[np.float64]
Method = Literal["linear", "ties", "dare_linear", "dare_ties"]
METHODS: tuple[Method, ...] = get_args(Method)

MOST_INGREDIENTS = 32
USUAL_DENSITY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredient:
    """One version that goes in."""

    version: str  # its id, as it is shown
    digest: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides the bytes: the same recipe is the same adapter, in whatever order it names its ingredients."""

    ingredients: tuple[Ingredient, ...]
    method: Method = "linear"
    density: float = USUAL_DENSITY  # the share of entries that TIES and DARE keep
    seed: int = 0  # of DARE's choice
    target: Target = field(default_factory=Target)

    def __post_init__(self) -> None:
        if not 2 <= len(self.ingredients) <= MOST_INGREDIENTS:
            raise AdapterRefused(
                "bad_mix",
                f"a mix of {len(self.ingredients)} adapters; name 2 to {MOST_INGREDIENTS}, each with a weight",
            )
        for one in self.ingredients:
            if not math.isfinite(one.weight) or one.weight == 0:
                raise AdapterRefused(
                    "bad_mix", f"the weight of {one.version} is {one.weight!r}; give a number other than 0"
                )
        if not 0 < self.density <= 1:
            raise AdapterRefused("bad_mix", f"density is {self.density!r}; give a share above 0 and up to 1")
        ordered = tuple(sorted(self.ingredients, key=lambda one: (one.digest, one.weight)))
        object.__setattr__(self, "ingredients", ordered)

    @property
    def facts(self) -> dict[str, Any]:
        """For a version's details."""
        told: dict[str, Any] = {
            "method": self.method,
            "adapters": [{"version": one.version, "weight": one.weight} for one in self.ingredients],
        }
        if self.method != "linear":
            told["density"] = self.density
        if self.method.startswith("dare"):
            told["seed"] = self.seed
        return told

    @property
    def digest(self) -> str:
        """SHA-256 over what decides the bytes: versions by content, weights and settings."""
        fields = {
            **self.facts,
            "adapters": [[one.digest, one.weight] for one in self.ingredients],
            "target": [self.target.rank, self.target.error, self.target.limit],
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        parts = " + ".join(f"{one.weight:g} {one.version}" for one in self.ingredients)
        return f"mix ({self.method}): {parts}"


def mix(folders: Sequence[Path], into: Path, recipe: Recipe) -> Converted:
    """Write to `into` the mix of the plain LoRAs in `folders`, in the order of the recipe's ingredients.

    Returns the relative error of every module, against the mix of full rank. Raises AdapterRefused.
    """
    opened = [_Opened(folder) for folder in folders]
    modules = list(dict.fromkeys(module for one in opened for module in one.pairs))
    errors: dict[str, float] = {}
    with TemporaryDirectory(dir=into.parent) as name:
        waiting = Path(name)
        for module in modules:
            made = _sum(module, opened, recipe) if recipe.method == "linear" else _merged(module, opened, recipe)
            if made is not None:
                b, a, errors[module] = made
                factoring.put_aside(waiting, len(errors) - 1, b, a)
        factoring.assemble(into, waiting, list(errors))
    return Converted(kind="MIX", errors=errors)


class _Opened:
    """One ingredient's pairs by module."""

    def __init__(self, folder: Path) -> None:
        self._config = PeftConfig.read(folder / CONFIG_FILE)
        self._weights: LoraWeights = open_weights(folder)
        self.pairs: dict[str, Pair] = {pair.module: pair for pair in self._weights.pairs}
        if embedding := next((pair for pair in self._weights.pairs if pair.is_embedding), None):
            raise AdapterRefused(
                "embedding_lora",
                f"{embedding.module!r} is an embedding, and only linear layers are mixed; leave it out",
            )

    def factors(self, module: str) -> tuple[Matrix, Matrix]:
        """(s·B, A) of one module."""
        a, b = self._weights.read(self.pairs[module])
        return b.astype(np.float64) * self._config.scale(module), a.astype(np.float64)


def _sum(module: str, opened: Sequence[_Opened], recipe: Recipe) -> tuple[Matrix, Matrix, float] | None:
    lefts: list[Matrix] = []
    rights: list[Matrix] = []
    for one, ingredient in zip(opened, recipe.ingredients, strict=True):
        if module in one.pairs:
            b, a = one.factors(module)
            lefts.append(b * ingredient.weight)
            rights.append(a)
    b, a = np.hstack(lefts), np.vstack(rights)
    if recipe.target.rank is None and recipe.target.error is None:
        return b, a, 0.0
    left, spectrum, right = factoring.decomposed(b, a)
    if spectrum.values[0] == 0:
        return None
    rank = min(b.shape[1], recipe.target.rank_for(module, spectrum))
    root = np.sqrt(spectrum.values[:rank])
    return left[:, :rank] * root, root[:, None] * right[:rank], spectrum.tail(rank)


def _merged(module: str, opened: Sequence[_Opened], recipe: Recipe) -> tuple[Matrix, Matrix, float] | None:
    """By PEFT's own functions. DARE drops with a generator of its own here, PEFT's takes the process's."""
    import torch
    from peft.utils.merge_utils import calculate_majority_sign_mask, disjoint_merge, task_arithmetic, ties

    differences: list[torch.Tensor] = []
    weights: list[float] = []
    for one, ingredient in zip(opened, recipe.ingredients, strict=True):
        if module not in one.pairs:
            continue
        b, a = one.factors(module)
        difference = torch.from_numpy(b @ a)
        if recipe.method.startswith("dare"):
            difference = _dropped(difference, recipe, f"{module} {ingredient.digest}")
        differences.append(difference)
        weights.append(ingredient.weight)
    shares = torch.tensor(weights, dtype=torch.float64)
    if recipe.method == "dare_linear":
        merged = task_arithmetic(differences, shares)
    elif recipe.method == "ties" and recipe.density < 1:
        merged = ties(differences, shares, recipe.density)
    else:  # what is to be dropped was dropped
        stacked = torch.stack(differences)
        merged = disjoint_merge(stacked * shares[:, None, None], calculate_majority_sign_mask(stacked))
    return factoring.factors(module, merged.numpy(), recipe.target)


def _dropped(difference: Any, recipe: Recipe, place: str) -> Any:
    """Each entry kept with the probability `density`, and scaled so that the sum is the same on average."""
    import torch

    seed = int.from_bytes(hashlib.sha256(f"{recipe.seed} {place}".encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(seed)
    kept = torch.bernoulli(torch.full_like(difference, recipe.density), generator=generator)
    return difference * kept / recipe.density
