"""What an adapter of any kind, or a fine-tuned copy of the base, adds to each weight: ΔW = W' − W, one at a time.

PEFT's own layer is built around one weight of the base, filled with that module's tensors and merged; no formula of a
kind is written here again. In float64, so that the subtraction costs no digits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters import peft_config
from adapters.base_facts import Shape
from adapters.base_model import BaseModel, BaseWeights
from adapters.errors import AdapterRefused
from adapters.lora_weights import MAX_NAME_CHARS, PREFIX
from adapters.peft_config import CONFIG_FILE
from adapters.safetensors_file import FLOATS, WEIGHTS_FILE, SafetensorsFile

Matrix = NDArray[np.float64]

CHECKPOINT_FILES = ("model.safetensors", "model.safetensors.index.json")

_ADAPTER = "converted"  # the name that PEFT's layers know it by
_SHARED = ("VERA", "PVERA", "RANDLORA", "VBLORA")  # layers whose matrices are cut from those of all layers together
_COUNTED = ".ranknum."  # AdaLoRA's tensor that PEFT neither saves nor needs
_SIZES = ("init_r", "n_frequency", "num_vectors", "r", "vector_length")  # what memory is taken by before tensors come
# How PEFT says that it cannot make a layer of a config and tensors: in no way of its own.
_PEFT_FAILURES = (AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


class Differences(ABC):
    """The modules that change, in the base's order, and by what each does."""

    kind: str  # "DORA", "LOHA", ... or "CHECKPOINT"
    modules: tuple[str, ...]

    @abstractmethod
    def of(self, module: str) -> Matrix:
        """ΔW of one module, (out, in); raises AdapterRefused."""

    def left_out(self) -> dict[str, float]:
        """Other tensors that change, which no LoRA of linear layers can express, and by how much (relative)."""
        return {}


def differences(folder: Path, base: BaseModel) -> Differences:
    """Of the adapter, or of the whole model, in a folder. Raises AdapterRefused."""
    return CheckpointDifferences(folder, base) if is_checkpoint(folder) else PeftDifferences(folder, base)


def is_checkpoint(folder: Path) -> bool:
    """Whether a whole model lies there, and no adapter."""
    return not (folder / CONFIG_FILE).exists() and any((folder / name).is_file() for name in CHECKPOINT_FILES)


class CheckpointDifferences(Differences):
    """A fully fine-tuned copy of the base: its safetensors files against the base's, weight by weight."""

    kind = "CHECKPOINT"

    def __init__(self, folder: Path, base: BaseModel) -> None:
        self._base = base
        self._tuned = BaseWeights(folder, {})
        self.modules = tuple(name for name in base.modules if name != base.output)

    def of(self, module: str) -> Matrix:
        outputs, inputs = self._base.modules[module]
        before = _weight(self._base, module)
        after = self._tuned.matrix(module)
        if after is None:
            raise AdapterRefused(
                "other_base",
                f"the checkpoint has no unquantized weight of {module!r}; give one of the same base, in bfloat16, "
                "float16 or float32, as transformers' save_pretrained writes it",
            )
        if after.shape != before.shape:
            raise AdapterRefused(
                "other_base",
                f"{module!r} is {after.shape[0]}x{after.shape[1]} in the checkpoint and {outputs}x{inputs} in the "
                "base; give a checkpoint that was fine-tuned from this base",
            )
        difference = after.astype(np.float64) - before
        return _finite(module, difference)

    def left_out(self) -> dict[str, float]:
        assert self._base.weights is not None  # of() has read from it
        told = {f"{module}.weight" for module in self.modules}
        changes: dict[str, float] = {}
        for name in self._base.weights.names():
            before = None if name in told else self._base.weights.tensor(name)
            if before is None:
                continue
            after = self._tuned.tensor(name)
            change = _relative(before, after) if after is not None and after.shape == before.shape else 1.0
            if change:
                changes[name] = change
        return changes


class PeftDifferences(Differences):
    """An adapter that PEFT saved, of a kind that adds something to weights of linear layers."""

    def __init__(self, folder: Path, base: BaseModel) -> None:
        self._raw = peft_config.read_json(folder / CONFIG_FILE)
        peft_config.check_convertible(self._raw)
        peft_type = str(self._raw["peft_type"]).upper()
        self.kind = "DORA" if self._raw.get("use_dora") else peft_type
        self._is_shared = peft_type in _SHARED
        self._base = base
        self._file = SafetensorsFile.open(folder / WEIGHTS_FILE)
        self._tensors, self._common = self._by_module()
        self.modules = tuple(name for name in base.modules if name in self._tensors)
        self._check_sizes()

    def of(self, module: str) -> Matrix:
        weight = _weight(self._base, module)
        try:
            return _finite(module, self._difference(module, weight))
        except _PEFT_FAILURES as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()[:200]
            raise AdapterRefused(
                "not_convertible",
                f"PEFT makes no layer of {module!r} of these files ({reason}); save the adapter again with the PEFT "
                "that trained it, on this base",
            ) from error

    def _difference(self, module: str, weight: Matrix) -> Matrix:
        import torch

        layer = self._shared_layers[module] if self._is_shared else self._layers((module,))[module]
        linear = layer.get_base_layer()
        outputs = weight.shape[0]
        linear.weight = torch.nn.Parameter(torch.from_numpy(weight.copy()), requires_grad=False)
        linear.bias = torch.nn.Parameter(torch.linspace(1, 2, outputs, dtype=torch.float64), requires_grad=False)
        before = linear.bias.detach().clone()
        layer.double().eval()
        with torch.no_grad():
            layer.merge(adapter_names=[_ADAPTER])
        merged = layer.get_base_layer()
        if not torch.equal(merged.bias.detach(), before) and self._base.has_bias(module):
            raise AdapterRefused(
                "lora_bias",
                f"{self.kind} scales what {module!r} gives with its bias, and vLLM's LoRA changes no biases; train on "
                "layers without one, or a LoRA",
            )
        difference = merged.weight.detach().numpy() - weight
        if self._is_shared:
            merged.weight = _nothing(weight.shape)  # the layer stays, the base's weight does not
            merged.bias = None
            layer.merged_adapters.clear()
            layer.float()
        return np.asarray(difference, dtype=np.float64)

    @cached_property
    def _shared_layers(self) -> Mapping[str, Any]:
        return self._layers(self.modules)

    def _layers(self, modules: Sequence[str]) -> dict[str, Any]:
        """PEFT's layers with their tensors, around linear layers: one around its weight, several around nothing."""
        import torch
        from peft import PeftModel
        from peft.utils.save_and_load import set_peft_model_state_dict

        skeleton = torch.nn.Module()
        for module in modules:
            outputs, inputs = self._base.modules[module]
            linear = torch.nn.Linear(inputs, outputs, bias=False, device="meta")
            linear.weight = (
                _nothing((outputs, inputs))
                if self._is_shared
                else torch.nn.Parameter(torch.from_numpy(_weight(self._base, module)), requires_grad=False)
            )
            _put(skeleton, module, linear)
        model = PeftModel(skeleton, self._config(modules), adapter_name=_ADAPTER, autocast_adapter_dtype=False)
        names = [name for module in modules for name in self._tensors[module]] + self._common
        state = {name: torch.from_numpy(self._read(name)) for name in names}
        loaded = set_peft_model_state_dict(model, state, adapter_name=_ADAPTER)
        self._check_loaded(model, loaded)
        return {module: model.base_model.model.get_submodule(module) for module in modules}

    def _read(self, name: str) -> NDArray[Any]:
        return self._file.read(name) if self._file.tensors[name].dtype in FLOATS else self._file.read_integers(name)

    def _config(self, modules: Sequence[str]) -> Any:
        """PEFT's config of these modules only; which ones have weights the tensors say, not patterns from outside."""
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        kind = PEFT_TYPE_TO_CONFIG_MAPPING[str(self._raw["peft_type"]).upper()]
        known = kind.__dataclass_fields__
        fields = {name: value for name, value in self._raw.items() if name in known}
        everywhere = {"exclude_modules": None, "layers_to_transform": None, "layers_pattern": None}
        fields |= {name: value for name, value in everywhere.items() if name in known}
        fields |= {"target_modules": list(modules), "inference_mode": False}
        if self.kind == "IA3":
            scales_inputs = [
                module
                for module in modules
                for name in self._tensors[module]
                if name.endswith(".ia3_l") and self._file.tensors[name].shape[0] == 1
            ]
            fields["feedforward_modules"] = scales_inputs
        if self.kind == "ADALORA" and isinstance(ranks := fields.get("rank_pattern"), dict):
            own = tuple(f"{module}." for module in modules)
            fields["rank_pattern"] = {key: kept for key, kept in ranks.items() if any(name in key for name in own)}
        return kind(**fields)

    def _check_loaded(self, model: Any, loaded: Any) -> None:
        if loaded.unexpected_keys:
            raise AdapterRefused(
                "unknown_tensors",
                f"{loaded.unexpected_keys[0]!r} is no tensor of {self.kind}; save the adapter with PEFT",
            )
        needed = {name for name, one in model.named_parameters() if one.requires_grad and _COUNTED not in name}
        shared = tuple(f"{name.removeprefix('base_model.')}.{_ADAPTER}" for name in self._common)
        missing = [name for name in loaded.missing_keys if name in needed and not (shared and name.endswith(shared))]
        if missing:
            name = missing[0].replace(f".{_ADAPTER}", "")
            raise AdapterRefused("missing_half", f"the file has no {name!r}; save the adapter again, with all tensors")

    def _by_module(self) -> tuple[dict[str, list[str]], list[str]]:
        """The tensors' names by module, and those that all modules share."""
        found: dict[str, list[str]] = {}
        common: list[str] = []
        for name in self._file.tensors:
            if not name.startswith(PREFIX):
                common.append(name)
                continue
            module = self._owner(name)
            found.setdefault(module, []).append(name)
        if not found:
            raise AdapterRefused("empty", f"{self._file.path.name} has tensors of no layer; train and save it again")
        return found, common

    def _owner(self, name: str) -> str:
        short = name.removeprefix(PREFIX)
        parts = short.split(".")
        owners = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
        module = next((owner for owner in owners if owner in self._base.modules), None)
        if module is None and any(short.startswith(f"{embedding}.") for embedding in self._base.embeddings):
            raise AdapterRefused(
                "embedding_lora",
                f"{name[:MAX_NAME_CHARS]!r} changes the embedding, and only linear layers are converted; train "
                "without embed_tokens in target_modules",
            )
        if module is None:
            raise AdapterRefused(
                "unknown_modules",
                f"{name[:MAX_NAME_CHARS]!r} belongs to no linear layer of the base; use an adapter that PEFT "
                "trained on this base's layers, with AutoModelForCausalLM",
            )
        if short.removeprefix(f"{module}.") in ("weight", "bias"):
            raise AdapterRefused(
                "modules_to_save",
                f"{name[:MAX_NAME_CHARS]!r} is a whole layer, which cannot be swapped per request; train without "
                "modules_to_save",
            )
        return module

    def _check_sizes(self) -> None:
        """No number in the config may ask for more memory than the tensors have."""
        at_most = sum(max(info.shape, default=1) for info in self._file.tensors.values())
        patterns = self._raw.get("rank_pattern") or {}
        sizes = {name: self._raw.get(name) for name in _SIZES} | (patterns if isinstance(patterns, dict) else {})
        for name, value in sizes.items():
            if isinstance(value, int) and value > at_most:
                raise AdapterRefused(
                    "rank_mismatch", f"the config says {name}={value}, more than its tensors hold; save it again"
                )


def _weight(base: BaseModel, module: str) -> Matrix:
    """The base's weight in float64, (out, in)."""
    if module in base.transposed:
        raise AdapterRefused(
            "not_convertible",
            f"{module!r} is a Conv1D layer, which keeps its weight the other way round; convert it with PEFT's "
            "convert_to_lora, or train a LoRA",
        )
    weight = base.weights.matrix(module) if base.weights else None
    if weight is None:
        raise AdapterRefused(
            "no_base_weights",
            f"the base's own weight of {module!r} is not on this machine unquantized, and the difference to it cannot "
            "be had; convert where the full base lies (manyhats adapters convert), and register the result",
        )
    if weight.shape != base.modules[module]:
        raise AdapterRefused(
            "no_base_weights",
            f"the base's file has {module!r} as {weight.shape[0]}x{weight.shape[1]}, not as the layer is; give "
            "the base as transformers' save_pretrained writes it",
        )
    return weight.astype(np.float64)


def _finite(module: str, difference: Matrix) -> Matrix:
    if not np.isfinite(difference).all():
        raise AdapterRefused(
            "nan_weights", f"{module!r} becomes NaN or infinity; training diverged: take an earlier checkpoint"
        )
    return difference


def _relative(before: NDArray[Any], after: NDArray[Any]) -> float:
    norm = float(np.linalg.norm(before.astype(np.float64)))
    return float(np.linalg.norm(after.astype(np.float64) - before)) / norm if norm else float(np.any(after))


def _nothing(shape: Shape) -> Any:
    """A weight of that shape that takes no memory: one zero, seen everywhere."""
    import torch

    return torch.nn.Parameter(torch.zeros(()).expand(*shape), requires_grad=False)


def _put(root: Any, module: str, layer: Any) -> None:
    import torch

    *above, last = module.split(".")
    for name in above:
        if not hasattr(root, name):
            root.add_module(name, torch.nn.Module())
        root = getattr(root, name)
    root.add_module(last, layer)
