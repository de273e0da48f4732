"""PEFT's `adapter_config.json` of prompt tuning: the fields that decide what its one tensor means.

Prompt tuning: arXiv 2104.08691. Only its plain form: a table of vectors that stand before the text's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.errors import AdapterRefused
from adapters.peft_config import MAX_BASE_CHARS, check_task

MOST_VIRTUAL_TOKENS = 256  # of every request's context; prompts in use have 8 to 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """What one config says. How the prompt was begun does not matter once it is trained."""

    n_virtual_tokens: int
    hidden: int | None = None  # a vector's length, where the file says it
    base: str | None = None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> PromptConfig:
        """The config of a decoded file; raises AdapterRefused: bad_config, wrong_task_type, modules_to_save."""
        check_task(raw)
        if saved := raw.get("modules_to_save"):
            raise AdapterRefused(
                "modules_to_save",
                f"modules_to_save is {saved!r}: whole layers beside the soft prompt, which cannot be swapped per "
                "request; train without modules_to_save",
            )
        if raw.get("num_transformer_submodules") not in (None, 1):
            raise AdapterRefused(
                "bad_config",
                f"num_transformer_submodules is {raw['num_transformer_submodules']!r}; a decoder has one: "
                "train with task_type='CAUSAL_LM'",
            )
        base = raw.get("base_model_name_or_path")
        return cls(
            n_virtual_tokens=_count(raw, "num_virtual_tokens"),
            hidden=None if raw.get("token_dim") is None else _count(raw, "token_dim"),
            base=base[:MAX_BASE_CHARS] if isinstance(base, str) else None,
        )

    def canonical(self) -> bytes:
        """JSON of what, with the tensor, decides the answer: equal bytes for equal meaning."""
        return json.dumps({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": self.n_virtual_tokens}).encode()


def is_soft_prompt(raw: Mapping[str, Any]) -> bool:
    """Whether PEFT's plain prompt tuning made it."""
    return isinstance(peft_type := raw.get("peft_type"), str) and peft_type.upper() == "PROMPT_TUNING"


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    if type(value) is not int or value < 1:
        raise AdapterRefused("bad_config", f"{name} is {value!r}; it must be a whole number, 1 or more")
    return value
