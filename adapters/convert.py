"""Adapters that the engine would refuse, made into ones that it serves: exactly, or with the error reported.

Plain LoRA, PiSSA and OLoRA are products of two thin matrices and are cut as such, which is done here; everything else
is a difference of whole weights (differences.py, factoring.py).

One module at a time, and never a whole B·A: for B = Q·R and Aᵀ = Q'·R' its singular values are those of the small
R·R'ᵀ. The product's scale is kept: alpha is set so that alpha/r (alpha/√r with rsLoRA) is what it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters import peft_config, safetensors_file
from adapters.base_model import BaseModel
from adapters.differences import differences, is_checkpoint
from adapters.errors import AdapterRefused
from adapters.factoring import Converted, Target, decomposed, write
from adapters.lora_weights import LoraWeights, Pair
from adapters.peft_config import CONFIG_FILE, PeftConfig
from adapters.preflight import open_weights
from adapters.safetensors_file import WEIGHTS_FILE, Floats

Matrix = NDArray[np.float64]
Factors = Callable[[Pair], tuple[Matrix, Matrix]]  # B (out, r) and A (r, in), still to be scaled

REPEATABLE = ("pissa", "olora")  # inits that depend on the base's weights alone


def convert(folder: Path, into: Path, base: BaseModel, target: Target) -> Converted:
    """A plain LoRA of whatever lies in `folder`: an adapter of any kind that can be one, or a fine-tuned base.

    Raises AdapterRefused.
    """
    if is_checkpoint(folder):
        return to_lora(folder, into, base, target)
    raw = peft_config.read_json(folder / CONFIG_FILE)
    if not peft_config.is_lora(raw) or raw.get("use_dora"):
        return to_lora(folder, into, base, target)
    config = PeftConfig.parse(raw)
    if _init(config) in REPEATABLE:
        errors = to_plain_lora(folder, into, base, target)
        return Converted(kind=_init(config).upper(), errors=errors)
    return Converted(kind="LORA", errors=truncate(folder, into, target))


def to_lora(folder: Path, into: Path, base: BaseModel, target: Target) -> Converted:
    """Write to `into` the LoRA that comes nearest to the difference of weights that lies in `folder`."""
    found = differences(folder, base)
    errors = write(into, ((module, found.of(module)) for module in found.modules), target)
    return Converted(kind=found.kind, errors=errors, left_out=found.left_out())


def truncate(folder: Path, into: Path, target: Target) -> dict[str, float]:
    """Write to `into` the nearest adapter of the target's ranks; modules below them stay as they are.

    Returns ‖B·A − B'·A'‖ / ‖B·A‖ (Frobenius) for every module. Raises AdapterRefused.
    """
    config, weights = _opened(folder)
    config.check_supported()

    def factors(pair: Pair) -> tuple[Matrix, Matrix]:
        a, b = weights.read(pair)
        return b.astype(np.float64), a.astype(np.float64)

    ranks = {pair.module: min(pair.rank, _rank(pair, factors, target) or pair.rank) for pair in weights.pairs}
    return _write(into, config, weights, ranks, factors, always=False)


def to_plain_lora(folder: Path, into: Path, base: BaseModel, target: Target) -> dict[str, float]:
    """Write to `into` the plain LoRA that does to the base's own weights what a PiSSA or OLoRA adapter does to its.

    Those trained B·A on W − s·B₀·A₀, where B₀ and A₀ follow from W; so on W itself the change is s·(B·A − B₀·A₀), of
    twice the rank. B₀ and A₀ come from PEFT's own initialisation of each layer. Exact up to float32, or cut.
    Returns the relative error of every module. Raises AdapterRefused where B₀ and A₀ cannot be had again.
    """
    config, weights = _opened(folder)
    init = _init(config)
    PeftConfig.parse({**config.raw, "init_lora_weights": True}).check_supported()
    if init not in REPEATABLE:
        raise AdapterRefused(
            "modified_base",
            f"init_lora_weights is {config.raw.get('init_lora_weights')!r}, which draws on chance or data and "
            "cannot be repeated here; save with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
        )

    def factors(pair: Pair) -> tuple[Matrix, Matrix]:
        a, b = weights.read(pair)
        first_b, first_a = _initial(pair, config, base, init)
        return np.hstack([b, -first_b]).astype(np.float64), np.vstack([a, first_a]).astype(np.float64)

    most = {pair.module: min(2 * pair.rank, pair.inputs, pair.outputs) for pair in weights.pairs}
    ranks = {
        pair.module: min(most[pair.module], _rank(pair, factors, target) or most[pair.module]) for pair in weights.pairs
    }
    # always: B·A and B₀·A₀ are large and nearly equal, and would leave rounding errors as factors of their own
    return _write(into, config, weights, ranks, factors, always=True)


def _rank(pair: Pair, factors: Factors, target: Target) -> int | None:
    """The rank of one module's product under the target; None keeps all of it."""
    if target.rank is not None or target.error is None:
        return target.rank
    b, a = factors(pair)
    _check_finite(pair, b, a)
    return target.rank_for(pair.module, decomposed(b, a)[1])


def _opened(folder: Path) -> tuple[PeftConfig, LoraWeights]:
    config = PeftConfig.read(folder / CONFIG_FILE)
    weights = open_weights(folder)
    weights.check_ranks(config)
    return config, weights


def _init(config: PeftConfig) -> str:
    init = config.raw.get("init_lora_weights")
    return init.lower() if isinstance(init, str) else ""


def _initial(pair: Pair, config: PeftConfig, base: BaseModel, init: str) -> tuple[Floats, Floats]:
    """(B₀, A₀) of one module, by PEFT's layer over the base's weight."""
    weight = base.weights.matrix(pair.module) if base.weights and not pair.is_embedding else None
    if weight is None:
        raise AdapterRefused(
            "modified_base",
            f"the base's unquantized weight of {pair.module!r} is not at hand to convert with; "
            "save it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
    if weight.shape != (pair.outputs, pair.inputs):
        raise AdapterRefused(
            "other_base",
            f"{pair.module!r} is {pair.outputs}x{pair.inputs} in the adapter and {weight.shape[0]}x{weight.shape[1]} "
            "in the base; use an adapter trained on this base",
        )
    import torch
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    linear = torch.nn.Linear(pair.inputs, pair.outputs, bias=False, device="meta")
    linear.weight = torch.nn.Parameter(torch.from_numpy(weight.astype(np.float32)), requires_grad=False)
    alpha = config.scale(pair.module) * (math.sqrt(pair.rank) if config.use_rslora else pair.rank)
    options = LoraConfig(r=pair.rank, lora_alpha=alpha, use_rslora=config.use_rslora, init_lora_weights=init)
    layer = Linear(linear, "initial", options, r=pair.rank, lora_alpha=alpha)
    first_b, first_a = layer.lora_B["initial"].weight, layer.lora_A["initial"].weight
    return first_b.detach().float().numpy(), first_a.detach().float().numpy()


def _write(
    into: Path, config: PeftConfig, weights: LoraWeights, ranks: Mapping[str, int], factors: Factors, *, always: bool
) -> dict[str, float]:
    shapes: dict[str, tuple[int, ...]] = {}
    for pair in weights.pairs:
        shapes[pair.a] = (ranks[pair.module], pair.inputs)
        shapes[pair.b] = (pair.outputs, ranks[pair.module])
    errors: dict[str, float] = {}
    with safetensors_file.create(into / WEIGHTS_FILE, shapes) as tensors:
        for pair in weights.pairs:
            b, a = factors(pair)
            _check_finite(pair, b, a)
            if always or ranks[pair.module] < b.shape[1]:
                b, a, errors[pair.module] = nearest(b, a, ranks[pair.module])
            else:
                errors[pair.module] = 0.0
            tensors[pair.a][:], tensors[pair.b][:] = a, b
    fields = json.dumps(_config_fields(config, weights, ranks)).encode()
    (into / CONFIG_FILE).write_bytes(peft_config.staged(fields))
    return errors


def _check_finite(pair: Pair, b: Matrix, a: Matrix) -> None:
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AdapterRefused(
            "nan_weights", f"{pair.module!r} holds NaN or infinity; training diverged: take an earlier checkpoint"
        )


def nearest(b: Matrix, a: Matrix, rank: int) -> tuple[Matrix, Matrix, float]:
    """(B', A', relative error): the best approximation of B·A with that rank (Eckart and Young, 1936).

    The factors share the singular values evenly, which keeps both of a size that bfloat16 holds well.
    """
    left, spectrum, right = decomposed(b, a)
    root = np.sqrt(spectrum.values[:rank])
    return left[:, :rank] * root, root[:, None] * right[:rank], spectrum.tail(rank)


def _config_fields(config: PeftConfig, weights: LoraWeights, ranks: Mapping[str, int]) -> dict[str, Any]:
    """The config with the new ranks, and alphas that keep every module's scale."""
    alphas = {
        pair.module: config.scale(pair.module)
        * (math.sqrt(ranks[pair.module]) if config.use_rslora else ranks[pair.module])
        for pair in weights.pairs
    }
    first = weights.pairs[0].module
    r, alpha = ranks[first], alphas[first]
    return {
        **config.raw,
        "init_lora_weights": True,
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": {peft_config.exactly(module): rank for module, rank in ranks.items() if rank != r},
        "alpha_pattern": {peft_config.exactly(module): value for module, value in alphas.items() if value != alpha},
    }
