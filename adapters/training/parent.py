"""The adapter that training goes on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from adapters.peft_config import CONFIG_FILE
from adapters.training.method import Lora


def shape_of(parent: Path) -> Lora | None:
    """The LoRA shape of an adapter's folder, which has passed preflight; None for a soft prompt. Raises OSError."""
    told = json.loads((parent / CONFIG_FILE).read_bytes())
    if told.get("peft_type") != "LORA":
        return None
    # Not checked against what a job may ask for: it is there, and stays as it is.
    return Lora.model_construct(
        r=told["r"],
        alpha=told["lora_alpha"],
        dropout=told.get("lora_dropout") or 0.0,
        target_modules=_targets(told.get("target_modules")),
        use_rslora=bool(told.get("use_rslora", False)),
    )


def _targets(told: str | Sequence[str] | None) -> Literal["all-linear"] | tuple[str, ...]:
    if not told or told == "all-linear":
        return "all-linear"
    return (told,) if isinstance(told, str) else tuple(sorted(told))  # a text alone is a regular expression
