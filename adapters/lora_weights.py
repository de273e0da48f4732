"""The tensors of a LoRA file as pairs: for each module A (rank, in) and B (out, rank), so that its change is B·A."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.errors import AdapterRefused
from adapters.peft_config import PeftConfig
from adapters.safetensors_file import FLOATS, Floats, SafetensorsFile

PREFIX = "base_model.model."  # PEFT's; vLLM takes it away
MAX_NAME_CHARS = 200  # names are matched against patterns from the config: long ones would take long
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_EMBEDDING = re.compile(r"(?P<module>.+)\.lora_embedding_(?P<half>[AB])")
# PEFT adds copies of the base's own embeddings to LoRA on them; vLLM skips exactly these two.
_BASE_COPY = re.compile(r".*\.(embed_tokens|lm_head)\.base_layer\.weight")

Half = Literal["A", "B"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both halves of one module. An embedding's `inputs` is the vocabulary."""

    module: str  # without `base_model.model.`
    a: str  # tensor names
    b: str
    rank: int
    inputs: int
    outputs: int
    is_embedding: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraWeights:
    """The pairs of one file, in its order, and what else it holds."""

    file: SafetensorsFile
    pairs: tuple[Pair, ...]
    ignored: tuple[str, ...]  # tensors that the engine skips

    @classmethod
    def open(cls, path: Path) -> LoraWeights:
        """Raises AdapterRefused for a bad file, unknown or doubled tensors, wrong types and shapes, missing halves."""
        file = SafetensorsFile.open(path)
        ignored = tuple(name for name in file.tensors if _BASE_COPY.fullmatch(name))
        if len(ignored) == len(file.tensors):
            raise AdapterRefused("empty", f"{path.name} holds no LoRA tensors; train the adapter and save it again")
        halves = _halves(file, skip=ignored)
        return cls(file=file, pairs=tuple(_pairs(file, halves)), ignored=ignored)

    def read(self, pair: Pair) -> tuple[Floats, Floats]:
        """(A, B), shapes (rank, in) and (out, rank)."""
        return self.file.read(pair.a), self.file.read(pair.b)

    def check_ranks(self, config: PeftConfig) -> None:
        """Refuse tensors whose rank is not the config's: the scaling would be wrong."""
        for pair in self.pairs:
            expected = config.rank(pair.module)
            if pair.rank != expected:
                raise AdapterRefused(
                    "rank_mismatch",
                    f"the config gives {pair.module!r} rank {expected}, its tensors have rank {pair.rank}; "
                    "set r (or rank_pattern) to the tensors' rank, with the lora_alpha it was trained with",
                )


def _halves(file: SafetensorsFile, skip: tuple[str, ...]) -> dict[str, dict[Half, str]]:
    halves: dict[str, dict[Half, str]] = {}
    for name, info in file.tensors.items():
        if name in skip:
            continue
        short = name.removeprefix(PREFIX)
        if len(short) > MAX_NAME_CHARS:
            raise AdapterRefused(
                "unknown_tensors", f"{name[:80]!r}... is no name of a layer; save the adapter with PEFT"
            )
        match = _LORA.fullmatch(short) or _EMBEDDING.fullmatch(short)
        if match is None:
            raise _unknown(name)
        if info.dtype not in FLOATS:
            raise AdapterRefused("wrong_dtype", f"{name!r} is {info.dtype}; save the adapter in {', '.join(FLOATS)}")
        if len(info.shape) != 2 or 0 in info.shape:
            raise _bad_shape(name, info.shape)
        half: Half = "A" if match["half"] == "A" else "B"
        known = halves.setdefault(match["module"], {})
        if half in known:
            raise AdapterRefused(
                "duplicate_tensors", f"{known[half]!r} and {name!r} are weights of one module; keep one of the two"
            )
        known[half] = name
    return halves


def _pairs(file: SafetensorsFile, halves: dict[str, dict[Half, str]]) -> Iterator[Pair]:
    for module, names in halves.items():
        if len(names) < 2:
            here, there = ("A", "B") if "A" in names else ("B", "A")
            raise AdapterRefused(
                "missing_half",
                f"{module!r} has lora_{here} but no lora_{there}; save the adapter again, with both halves",
            )
        (rank, inputs), (outputs, rank_b) = file.tensors[names["A"]].shape, file.tensors[names["B"]].shape
        if rank != rank_b:
            raise AdapterRefused(
                "rank_mismatch",
                f"{module!r} has lora_A of rank {rank} and lora_B of rank {rank_b}; save the adapter again",
            )
        embedding = _EMBEDDING.fullmatch(names["A"]) is not None
        yield Pair(
            module=module, a=names["A"], b=names["B"], rank=rank, inputs=inputs, outputs=outputs, is_embedding=embedding
        )


def _unknown(name: str) -> AdapterRefused:
    if "lora_magnitude_vector" in name:
        return AdapterRefused("dora", f"{name!r} belongs to DoRA, which vLLM has not; register it with convert")
    if ".lora_" in name and name.endswith(".bias"):
        return AdapterRefused("lora_bias", f"{name!r} is a bias, and vLLM adds none; train with lora_bias=False")
    if "trainable_tokens" in name:
        return AdapterRefused("trainable_tokens", f"{name!r} holds new token vectors; train without them")
    if ".lora_" in name:
        return AdapterRefused(
            "unknown_tensors",
            f"{name!r} is not named as PEFT saves it; save with PeftModel.save_pretrained, which writes "
            f"'{PREFIX}<module>.lora_A.weight'",
        )
    if name.endswith((".weight", ".bias")):
        return AdapterRefused(
            "modules_to_save",
            f"{name!r} is a whole layer, which cannot be swapped per request; train without modules_to_save and "
            "without new tokens, and save with save_embedding_layers=False",
        )
    return AdapterRefused("unknown_tensors", f"{name!r} is not a LoRA tensor; save with PeftModel.save_pretrained")


def _bad_shape(name: str, shape: tuple[int, ...]) -> AdapterRefused:
    if shape and 0 in shape:
        return AdapterRefused("rank_zero", f"{name!r} has shape {list(shape)}: no weights; train with rank 1 or more")
    return AdapterRefused(
        "bad_shape", f"{name!r} has shape {list(shape)}; LoRA of linear layers has matrices: target linear layers only"
    )
