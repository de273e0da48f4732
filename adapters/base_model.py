"""The base model as adapters see it: which linear layers it has, of which shapes, and how large their weights are."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from adapters.base_facts import Shape, read_facts
from adapters.errors import AdapterRefused
from adapters.safetensors_file import FLOATS, Floats, SafetensorsFile

SAMPLED_ROWS = 256
USUAL_DEVIATION = 0.02  # of a trained weight's entries, where the weight itself is not at hand


class BaseWeights:
    """The base's own safetensors files, read a few rows at a time; a quantized or missing weight is None."""

    def __init__(self, folder: Path, aliases: Mapping[str, str]) -> None:
        self._folder = folder
        self._aliases = aliases  # a module whose weight is another's: the tied output layer
        self._files: dict[str, SafetensorsFile | None] = {}
        self._norms: dict[str, float] = {}

    def matrix(self, module: str) -> Floats | None:
        """The whole weight of one module, (out, in)."""
        found = self._find(module)
        return None if found is None else found[0].read(found[1])

    def names(self) -> list[str]:
        """Every tensor of the files, sorted."""
        files = {*self._weight_map.values()} or {"model.safetensors"}
        found = (self._file(name) for name in files)
        return sorted(tensor for file in found if file is not None for tensor in file.tensors)

    def tensor(self, name: str) -> Floats | None:
        """Any tensor by its own name; None where it is not there, or quantized."""
        file = self._file(self._weight_map.get(name, "model.safetensors"))
        info = file.tensors.get(name) if file else None
        return file.read(name) if file and info and info.dtype in FLOATS else None

    def norm(self, module: str) -> float | None:
        """‖W‖ of one module (Frobenius)."""
        if module not in self._norms:
            found = self._find(module)
            if found is None:
                return None
            self._norms[module] = _norm(*found)
        return self._norms[module]

    def _find(self, module: str) -> tuple[SafetensorsFile, str] | None:
        for name in (f"{module}.weight", f"{self._aliases.get(module, module)}.weight"):
            file = self._file(self._weight_map.get(name, "model.safetensors"))
            info = file.tensors.get(name) if file else None
            if file and info and info.dtype in FLOATS and len(info.shape) == 2 and 0 not in info.shape:
                return file, name
        return None

    def _file(self, name: str) -> SafetensorsFile | None:
        if name not in self._files:
            try:
                self._files[name] = SafetensorsFile.open(self._folder / name)
            except AdapterRefused:  # not there, or damaged: the engine will say what is wrong with its own weights
                self._files[name] = None
        return self._files[name]

    @cached_property
    def _weight_map(self) -> Mapping[str, str]:
        index = self._folder / "model.safetensors.index.json"
        if not index.is_file():
            return {}
        files = json.loads(index.read_bytes()).get("weight_map", {})
        return {str(name): Path(str(file)).name for name, file in files.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """What preflight compares an adapter with."""

    name: str  # what it calls itself, else the folder's name
    modules: Mapping[str, Shape]  # linear layers by full name: "model.layers.0.self_attn.q_proj"
    embeddings: Mapping[str, Shape] = field(default_factory=dict)
    output: str | None = None  # the module that makes logits, one of `modules`: "lm_head"
    embedding_lora: bool = False  # whether the engine applies LoRA to `embeddings` and `output`
    transposed: frozenset[str] = frozenset()  # those of `modules` whose weights lie (in, out) in the files: GPT-2's
    fingerprint: str  # of names and shapes; a quantized copy has its original's
    context_tokens: int
    dtype: str = "bfloat16"  # what the weights, and so the adapters, are computed in
    weights: BaseWeights | None = field(default=None, compare=False, repr=False)

    @classmethod
    def read(cls, path: Path | str, *, cache: Path | None = None) -> BaseModel:
        """From a folder with a config.json, or the name of a model in the local hub cache. Loads no weights.

        cache: a folder where what transformers said is kept; without it, or the first time, torch and transformers are
        imported, seconds of work. Raises ValueError when transformers cannot build the model.
        """
        folder = _folder_of(path)
        facts = read_facts(str(path), folder, cache)
        output, embeddings = facts.output, facts.embeddings
        tied = {output: next(iter(embeddings))} if output and embeddings and facts.tied else {}
        return cls(
            name=_own_name(facts.name, path),
            modules=facts.modules,
            embeddings=embeddings,
            output=output,
            transposed=frozenset(facts.transposed),
            embedding_lora=facts.embedding_lora,
            fingerprint=fingerprint(facts.modules),
            context_tokens=facts.context_tokens,
            dtype=facts.dtype,
            weights=BaseWeights(folder, tied) if folder else None,
        )

    def has_bias(self, module: str) -> bool:
        """Whether the layer adds a bias, as far as the weights that are at hand tell."""
        return self.weights is not None and self.weights.tensor(f"{module}.bias") is not None

    def norm(self, module: str) -> float:
        """‖W‖ (Frobenius), measured where the weight is at hand, else what it usually is for that shape."""
        measured = self.weights.norm(module) if self.weights else None
        if measured:
            return measured
        outputs, inputs = self.modules.get(module) or self.embeddings[module]
        return USUAL_DEVIATION * math.sqrt(outputs * inputs)


def fingerprint(modules: Mapping[str, Shape]) -> str:
    """SHA-256 over the sorted names and shapes: equal bases take each other's adapters."""
    lines = (f"{name} {outputs} {inputs}\n" for name, (outputs, inputs) in sorted(modules.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _own_name(name: str | None, path: Path | str) -> str:
    named = name or str(path)
    return Path(named).resolve().name if Path(named).exists() else named


def _folder_of(path: Path | str) -> Path | None:
    if Path(path).is_dir():
        return Path(path)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(str(path), "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def _norm(file: SafetensorsFile, name: str) -> float:
    # a few hundred rows tell the norm to a few percent, without reading gigabytes
    rows = file.sample_rows(name, SAMPLED_ROWS).astype(np.float64)
    return float(np.linalg.norm(rows)) * math.sqrt(file.tensors[name].shape[0] / len(rows))
