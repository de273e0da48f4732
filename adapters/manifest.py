"""What is known about one adapter version once preflight has let it pass, and the digest that names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters import peft_config
from adapters.peft_config import CONFIG_FILE, PeftConfig
from adapters.prompt_config import PromptConfig, is_soft_prompt
from adapters.safetensors_file import WEIGHTS_FILE

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The facts of one version, all from its two files and the shapes of the base model."""

    digest: str  # 64 hex digits
    rank: int  # the largest of its modules; what vLLM's slots must hold; 0 for a soft prompt, which takes none
    alpha: float
    use_rslora: bool
    target_modules: tuple[str, ...]  # last parts of the module names that have weights: "q_proj", ...
    n_parameters: int
    size_bytes: int  # of the safetensors file
    dtype: str  # as safetensors calls it: "BF16"; several are joined by "+"
    declared_base: str | None  # `base_model_name_or_path`, as the trainer wrote it, at most 1,000 characters
    warnings: tuple[str, ...] = ()  # sentences for people; nothing here stops the adapter
    effect: float  # the largest ‖B·A‖·scale / ‖W‖ of its modules, Frobenius norms; a soft prompt's: see there
    modules: int  # how many modules have weights
    details: Mapping[str, Any] = field(default_factory=dict)  # further facts, JSON-able


def digest(folder: Path) -> str:
    """SHA-256 over the canonical JSON of the config fields that change the answer and the safetensors bytes.

    So a folder, a zip, a tar and a hub copy of one adapter are one version, and so are copies that differ in
    the declared base, the dropout or the order of `target_modules`. Raises AdapterRefused for an unreadable config.
    """
    raw = peft_config.read_json(folder / CONFIG_FILE)
    canonical = PromptConfig.parse(raw).canonical() if is_soft_prompt(raw) else PeftConfig.parse(raw).canonical()
    sha = hashlib.sha256(canonical)
    with (folder / WEIGHTS_FILE).open("rb") as file:
        while block := file.read(READ_BYTES):
            sha.update(block)
    return sha.hexdigest()
