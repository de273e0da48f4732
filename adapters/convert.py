"""Adapters that the engine would refuse, made into ones that it serves: exactly, or with the error reported.

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
from adapters.errors import AdapterRefused
from adapters.lora_weights import LoraWeights, Pair
from adapters.peft_config import CONFIG_FILE, PeftConfig
from adapters.preflight import open_weights
from adapters.safetensors_file import WEIGHTS_FILE, Floats

Matrix = NDArray[np.float64]
Factors = Callable[[Pair], tuple[Matrix, Matrix]]  # B (out, r) and A (r, in), still to be scaled

REPEATABLE = ("pissa", "olora")  # inits that depend on the base's weights alone


def convert(folder: Path, into: Path, base: BaseModel, *, rank: int | None = None) -> dict[str, float]:
    """What the adapter needs: a plain LoRA from PiSSA or OLoRA, cut to `rank` where that is given and smaller.

    Returns the relative error of every module; raises AdapterRefused.
    """
    config = PeftConfig.read(folder / CONFIG_FILE)
    if _init(config) in REPEATABLE:
        return to_plain_lora(folder, into, base, rank=rank)
    return truncate(folder, into, rank=rank or max(config.r, *config.rank_pattern.values(), 1))


def truncate(folder: Path, into: Path, *, rank: int) -> dict[str, float]:
    """Write to `into` the nearest adapter whose ranks are at most `rank`; modules below it stay as they are.

    Returns ‖B·A − B'·A'‖ / ‖B·A‖ (Frobenius) for every module. Raises AdapterRefused.
    """
    config, weights = _opened(folder)
    config.check_supported()

    def factors(pair: Pair) -> tuple[Matrix, Matrix]:
        a, b = weights.read(pair)
        return b.astype(np.float64), a.astype(np.float64)

    ranks = {pair.module: min(rank, pair.rank) for pair in weights.pairs}
    return _write(into, config, weights, ranks, factors, always=False)


def to_plain_lora(folder: Path, into: Path, base: BaseModel, *, rank: int | None = None) -> dict[str, float]:
    """Write to `into` the plain LoRA that does to the base's own weights what a PiSSA or OLoRA adapter does to its.

    Those trained B·A on W − s·B₀·A₀, where B₀ and A₀ follow from W; so on W itself the change is s·(B·A − B₀·A₀), of
    twice the rank. B₀ and A₀ come from PEFT's own initialisation of each layer. Exact up to float32; with `rank`, cut.
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
    ranks = {module: min(rank or full, full) for module, full in most.items()}
    # always: B·A and B₀·A₀ are large and nearly equal, and would leave rounding errors as factors of their own
    return _write(into, config, weights, ranks, factors, always=True)


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
    if min(ranks.values()) < 1:
        raise AdapterRefused(
            "rank_zero", f"rank {min(ranks.values())} leaves no weights; convert to a rank of 1 or more"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for pair in weights.pairs:
        shapes[pair.a] = (ranks[pair.module], pair.inputs)
        shapes[pair.b] = (pair.outputs, ranks[pair.module])
    errors: dict[str, float] = {}
    with safetensors_file.create(into / WEIGHTS_FILE, shapes) as tensors:
        for pair in weights.pairs:
            b, a = factors(pair)
            if not (np.isfinite(a).all() and np.isfinite(b).all()):
                raise AdapterRefused(
                    "nan_weights",
                    f"{pair.module!r} holds NaN or infinity; training diverged: take an earlier checkpoint",
                )
            if always or ranks[pair.module] < b.shape[1]:
                b, a, errors[pair.module] = nearest(b, a, ranks[pair.module])
            else:
                errors[pair.module] = 0.0
            tensors[pair.a][:], tensors[pair.b][:] = a, b
    fields = json.dumps(_config_fields(config, weights, ranks)).encode()
    (into / CONFIG_FILE).write_bytes(peft_config.staged(fields))
    return errors


def nearest(b: Matrix, a: Matrix, rank: int) -> tuple[Matrix, Matrix, float]:
    """(B', A', relative error): the best approximation of B·A with that rank (Eckart and Young, 1936).

    The factors share the singular values evenly, which keeps both of a size that bfloat16 holds well.
    """
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(a.T)
    u, s, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    root = np.sqrt(s[:rank])
    new_b, new_a = (q_b @ u[:, :rank]) * root, (root[:, None] * vt[:rank]) @ q_a.T
    whole = float(np.linalg.norm(s))
    return new_b, new_a, float(np.linalg.norm(s[rank:])) / whole if whole else 0.0


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
        "rank_pattern": {_exactly(module): rank for module, rank in ranks.items() if rank != r},
        "alpha_pattern": {_exactly(module): value for module, value in alphas.items() if value != alpha},
    }


def _exactly(module: str) -> str:
    return f"^{module}$".replace(".", r"\.")
