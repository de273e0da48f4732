"""What a base model says of its layers, by its configuration; kept, since transformers takes seconds to import."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Shape = tuple[int, int]  # (out, in), as torch's Linear.weight; an embedding's is (dim, vocabulary)

FORMAT = "1"  # raised when what is kept changes
DECIDING = ("transformers", "torch")

# vLLM 0.32 applies LoRA to embeddings and the output layer in these only (their `embedding_modules`); in the others
# the engine refuses to load it.
_EMBEDDING_LORA = (
    *("Apertus", "Exaone", "Exaone4", "Granite", "GraniteMoe", "Jamba", "Lfm2", "Llama", "MiniCPM", "Mixtral"),
    *("Nemotron", "PhiMoE", "Qwen3", "Qwen3Moe", "Solar"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFacts:
    """Everything that is computed from the configuration alone."""

    name: str | None  # what it calls itself
    modules: Mapping[str, Shape]
    transposed: Sequence[str]  # modules whose weight is stored (in, out): GPT-2's Conv1D
    embeddings: Mapping[str, Shape]
    output: str | None
    tied: bool  # the output layer has the embedding's weight
    embedding_lora: bool
    context_tokens: int
    dtype: str


def read_facts(model: str, folder: Path | None, cache: Path | None) -> BaseFacts:
    """From the model's configuration; from the cache where that has the same configuration's.

    folder: where the configuration lies, if that is known. Raises ValueError when transformers cannot build the model.
    """
    place = None
    if cache is not None and folder is not None and (folder / "config.json").is_file():
        place = cache / f"{_digest(folder / 'config.json')}.json"
        if (kept := _kept(place)) is not None:
            return kept
    facts = _built(model)
    if place is not None:
        _keep(place, facts)
    return facts


def _built(model: str) -> BaseFacts:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model)
        layers = _layers(config)
    except (OSError, KeyError, ValueError, ImportError) as error:
        raise ValueError(f"the base model at {model!r} cannot be understood: {error}") from error
    text = config.get_text_config()
    return BaseFacts(
        name=str(getattr(config, "_name_or_path", "") or "") or None,
        modules=layers.modules,
        transposed=sorted(layers.transposed),
        embeddings=layers.embeddings,
        output=layers.output,
        tied=bool(config.tie_word_embeddings),
        embedding_lora=any(f"{name}ForCausalLM" in (config.architectures or ()) for name in _EMBEDDING_LORA),
        context_tokens=int(getattr(text, "max_position_embeddings", 0) or 0),
        dtype=str(getattr(text, "dtype", None) or "float32").removeprefix("torch."),
    )


@dataclass(slots=True)
class _Layers:
    modules: dict[str, Shape] = field(default_factory=dict)
    transposed: set[str] = field(default_factory=set)
    embeddings: dict[str, Shape] = field(default_factory=dict)
    output: str | None = None


def _layers(config: Any) -> _Layers:
    """Of a model that is built without memory."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    if hasattr(config, "quantization_config"):
        del config.quantization_config  # its layers would be other classes; LoRA is trained on the plain ones
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = _Layers()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            found.modules[name] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            found.modules[name] = (module.nf, module.nx)
            found.transposed.add(name)
        elif isinstance(module, torch.nn.Embedding):
            found.embeddings[name] = (module.embedding_dim, module.num_embeddings)
    head = model.get_output_embeddings()
    if head is not None:
        found.output = next((name for name, module in model.named_modules() if module is head), None)
    return found


def _digest(config: Path) -> str:
    versions = [f"{name}={importlib.metadata.version(name)}" for name in DECIDING]
    told = "\n".join([FORMAT, str(config.parent), *versions]).encode()
    return hashlib.sha256(told + b"\n" + config.read_bytes()).hexdigest()[:24]


def _kept(place: Path) -> BaseFacts | None:
    """None for what is not there or cannot be read: it is made again."""
    try:
        kept = json.loads(place.read_bytes())
        for shapes in ("modules", "embeddings"):
            kept[shapes] = {str(name): (int(out), int(into)) for name, (out, into) in kept[shapes].items()}
        return BaseFacts(**kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _keep(place: Path, facts: BaseFacts) -> None:
    """Whole or not at all; without it the next start takes longer, and nothing else."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(facts), file)
            Path(name).replace(place)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        return
