"""Does this adapter fit the base model? Answered from its two files, before the engine sees them.

Stock vLLM serves several of these with wrong answers and status 200, and dies or answers 500 for others; here each is
refused with a kind and a sentence that says what would work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters import peft_config, prompt_config, soft_prompt
from adapters.base_facts import Shape
from adapters.base_model import BaseModel
from adapters.errors import AdapterRefused
from adapters.finite import check_finite
from adapters.lora_weights import PREFIX, LoraWeights, Pair
from adapters.manifest import Manifest, digest
from adapters.peft_config import CONFIG_FILE, PeftConfig
from adapters.safetensors_file import WEIGHTS_FILE, Floats

LEAST_EFFECT = 1e-6
MAX_OUTPUT_VOCABULARY = 258_048  # vLLM's limit for LoRA on the output layer


def check(folder: Path, base: BaseModel, *, max_rank: int, max_bytes: int, prompt_tuning: bool = False) -> Manifest:
    """The facts of the adapter in `folder`; raises AdapterRefused when the base cannot serve it.

    Reads one module's tensors at a time. Shapes decide; a different base name is a warning.
    prompt_tuning: whether the server takes soft prompts too.
    """
    raw = peft_config.read_json(folder / CONFIG_FILE)
    if prompt_config.is_soft_prompt(raw):
        return soft_prompt.check(folder, raw, base, max_bytes=max_bytes, allowed=prompt_tuning)
    peft_config.check_type(raw)  # before its fields, which other kinds have not
    config = PeftConfig.parse(raw)
    config.check_supported()
    weights = open_weights(folder)
    size_bytes = weights.file.path.stat().st_size
    if size_bytes > max_bytes:
        raise AdapterRefused(
            "too_large", f"{WEIGHTS_FILE} has {size_bytes} bytes, {max_bytes} are allowed; save it in bfloat16"
        )
    for pair in weights.pairs:
        _check_place(pair, base)
    for name in weights.ignored:
        _check_copy(name, weights.file.tensors[name].shape, base)
    weights.check_ranks(config)
    rank = max(pair.rank for pair in weights.pairs)
    _check_rank_limit(rank, max_rank)
    effects = {pair.module: _effect(weights, pair, config, base) for pair in weights.pairs}
    if max(effects.values()) < LEAST_EFFECT:
        raise AdapterRefused(
            "no_effect",
            f"the adapter changes no layer by more than {LEAST_EFFECT:g} of its weights (lora_B may be all zeros, "
            "as before training); train it, or save it after training",
        )
    dtypes = sorted({weights.file.tensors[name].dtype for pair in weights.pairs for name in (pair.a, pair.b)})
    return Manifest(
        digest=digest(folder),
        rank=rank,
        alpha=config.alpha,
        use_rslora=config.use_rslora,
        target_modules=tuple(sorted({pair.module.rpartition(".")[2] for pair in weights.pairs})),
        n_parameters=sum(pair.rank * (pair.inputs + pair.outputs) for pair in weights.pairs),
        size_bytes=size_bytes,
        dtype="+".join(dtypes),
        declared_base=config.base,
        warnings=tuple(_warnings(config, weights, base)),
        effect=max(effects.values()),
        modules=len(weights.pairs),
        details={"most_changed": max(effects, key=effects.__getitem__)},
    )


def open_weights(folder: Path) -> LoraWeights:
    """The folder's LoRA pairs; raises AdapterRefused, with the way out where only pickled weights are there."""
    if not (folder / WEIGHTS_FILE).is_file():
        check_pickle(path.name for path in folder.iterdir())
    return LoraWeights.open(folder / WEIGHTS_FILE)


def check_pickle(names: Iterable[str]) -> None:
    """Refuse a place that has the weights only as pickle, which runs code when it is read."""
    for name in names:
        if name in ("adapter_model.bin", "adapter_model.pt"):
            raise AdapterRefused(
                "pickle_weights",
                f"the weights are in {name}, a pickle, which can run code; load the adapter with PEFT and save it with "
                f"save_pretrained(safe_serialization=True), which writes {WEIGHTS_FILE}",
            )


def _check_place(pair: Pair, base: BaseModel) -> None:
    known = base.embeddings if pair.is_embedding else base.modules
    shape = known.get(pair.module)
    if shape is None:
        raise _no_such_module(pair, base, known)
    if (pair.is_embedding or pair.module == base.output) and not _applies_to_vocabulary(base, shape):
        raise AdapterRefused(
            "embedding_lora",
            f"the adapter changes {pair.module!r}, and the engine applies LoRA to linear layers inside the model only "
            "for this base; train without embed_tokens and lm_head in target_modules",
        )
    if (pair.outputs, pair.inputs) != shape:
        raise _other_shape(pair, shape)


def _check_copy(name: str, shape: tuple[int, ...], base: BaseModel) -> None:
    module = name.removeprefix(PREFIX).removesuffix(".base_layer.weight")
    served = base.modules.get(module) or tuple(reversed(base.embeddings.get(module, ())))
    if served and shape != served:
        raise AdapterRefused(
            "modules_to_save",
            f"{name!r} has shape {list(shape)} where the base has {list(served)}: tokens were added in training, which "
            "cannot be swapped per request; train without new tokens",
        )


def _applies_to_vocabulary(base: BaseModel, shape: Shape) -> bool:
    return base.embedding_lora and max(shape) <= MAX_OUTPUT_VOCABULARY


def _no_such_module(pair: Pair, base: BaseModel, known: Iterable[str]) -> AdapterRefused:
    layer = re.search(r"\.(\d+)\.", pair.module)
    if layer:
        before, after = pair.module[: layer.start()], pair.module[layer.end() :]
        layers = sorted(int(m[1]) for name in known if (m := re.fullmatch(_numbered(before, after), name)))
        if layers:
            return AdapterRefused(
                "missing_layers",
                f"the adapter has weights for {pair.module!r}, and the base's layers with {after!r} are {layers[0]} to "
                f"{layers[-1]}; use an adapter trained on this base",
            )
    fits = next((name for name in known if name.endswith(f".{pair.module}") or pair.module.endswith(f".{name}")), None)
    hint = (
        f"perhaps {PREFIX + fits!r} is meant" if fits else f"it has {', '.join(sorted(_last_parts(known))) or 'none'}"
    )
    return AdapterRefused(
        "unknown_modules",
        f"the base has no layer {pair.module!r} ({hint}), so it would be ignored; "
        "train on this base's layers, with AutoModelForCausalLM",
    )


def _numbered(before: str, after: str) -> str:
    return rf"{re.escape(before)}\.(\d+)\.{re.escape(after)}"


def _last_parts(names: Iterable[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def _other_shape(pair: Pair, shape: Shape) -> AdapterRefused:
    mine = (pair.outputs, pair.inputs)
    if all(here <= there for here, there in zip(mine, shape, strict=True)):
        kind, what = "smaller_base", "a smaller base"
    elif all(here >= there for here, there in zip(mine, shape, strict=True)):
        kind, what = "larger_base", "a larger base"
    else:
        kind, what = "other_base", "another base"
    return AdapterRefused(
        kind,
        f"the adapter was made for {what}: {pair.module!r} is {mine[0]}x{mine[1]} there, {shape[0]}x{shape[1]} here; "
        "use an adapter trained on this base",
    )


def _check_rank_limit(rank: int, max_rank: int) -> None:
    if rank > max_rank:
        raise AdapterRefused(
            "rank_above_limit",
            f"the adapter's rank is {rank} and this server takes up to {max_rank}; register it with convert "
            f"(--rank {max_rank}), which cuts it by truncated SVD and reports the error, or raise MANYHATS_MAX_RANK",
        )


def _effect(weights: LoraWeights, pair: Pair, config: PeftConfig, base: BaseModel) -> float:
    """‖B·A‖·scale / ‖W‖; raises AdapterRefused for values that are not finite, also after the engine's cast."""
    a, b = weights.read(pair)
    scale = config.scale(pair.module)
    for name, tensor, factor in ((pair.a, a, 1.0), (pair.b, b, max(1.0, scale))):
        check_finite(name, tensor, factor, base.dtype)
    return product_norm(b, a) * scale / base.norm(pair.module)


def product_norm(b: Floats, a: Floats) -> float:
    """‖B·A‖ (Frobenius) without forming the product: that of the triangles of B = Q·R and Aᵀ = Q'·R' is the same."""
    triangle_b, triangle_a = _triangle(b), _triangle(a.T)
    return float(np.linalg.norm(triangle_b @ triangle_a.T))


def _triangle(tall: Floats) -> NDArray[np.float64]:
    return np.asarray(np.linalg.qr(tall.astype(np.float64), mode="r"))


def _warnings(config: PeftConfig, weights: LoraWeights, base: BaseModel) -> Iterator[str]:
    if config.base and not _same_name(config.base, base.name):
        yield f"trained on {config.base!r}, served on {base.name!r}; the shapes agree"
    if isinstance(config.target_modules, tuple) and config.target_modules:
        targets = config.target_modules
        parts = {pair.module for pair in weights.pairs}
        idle = [name for name in targets if not any(_is_target(part, name) for part in parts)]
        extra = sorted(part for part in parts if not any(_is_target(part, name) for name in targets))
        if idle and targets != ("all-linear",):
            yield f"target_modules names {', '.join(idle)}, for which there are no weights"
        if extra and targets != ("all-linear",):
            yield f"{len(extra)} modules have weights though target_modules leaves them out, first {extra[0]!r}; served"
    if weights.ignored:
        yield f"{', '.join(weights.ignored)}: copies of the base's weights, which the engine ignores"


def _same_name(one: str, other: str) -> bool:
    return one.rstrip("/").rpartition("/")[2].lower() == other.rstrip("/").rpartition("/")[2].lower()


def _is_target(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")
