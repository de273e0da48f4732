"""Does this soft prompt fit the base? A table of vectors that prompt tuning trained, one for each virtual token.

The engine puts them before the embeddings of the rendered prompt, so their length must be the base's, and they take
room in its context. There is no rank and no slot: any number of soft prompts compute at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adapters.base_model import BaseModel
from adapters.errors import AdapterRefused
from adapters.finite import check_finite
from adapters.manifest import Manifest, digest
from adapters.prompt_config import MOST_VIRTUAL_TOKENS, PromptConfig
from adapters.safetensors_file import FLOATS, WEIGHTS_FILE, Floats, SafetensorsFile

KIND = "prompt_tuning"  # in a version's details
TENSOR = "prompt_embeddings"  # PEFT's name for the whole table


def check(folder: Path, raw: Mapping[str, Any], base: BaseModel, *, max_bytes: int, allowed: bool) -> Manifest:
    """The facts of the soft prompt in `folder`, whose config is `raw`; raises AdapterRefused.

    allowed: whether this server takes soft prompts at all.
    """
    if not allowed:
        raise AdapterRefused(
            "prompt_tuning_off",
            "this is a soft prompt (peft_type 'PROMPT_TUNING'), which this server does not take; its operator can set "
            "MANYHATS_PROMPT_TUNING=true and restart it, or train with LoraConfig",
        )
    config = PromptConfig.parse(raw)
    file = SafetensorsFile.open(folder / WEIGHTS_FILE)
    size_bytes = file.path.stat().st_size
    if size_bytes > max_bytes:
        raise AdapterRefused(
            "too_large", f"{WEIGHTS_FILE} has {size_bytes} bytes, {max_bytes} are allowed; save it in bfloat16"
        )
    n_tokens, hidden = _shape(file, config)
    _check_room(n_tokens, base)
    _check_base(hidden, base)
    vectors = file.read(TENSOR)
    check_finite(TENSOR, vectors, 1.0, base.dtype)
    if not vectors.any():
        raise AdapterRefused("no_effect", f"{TENSOR!r} is all zeros; train the prompt, or save it after training")
    return Manifest(
        digest=digest(folder),
        rank=0,
        alpha=0.0,
        use_rslora=False,
        target_modules=(),
        n_parameters=n_tokens * hidden,
        size_bytes=size_bytes,
        dtype=file.tensors[TENSOR].dtype,
        declared_base=config.base,
        effect=_length_beside_tokens(vectors, base),
        modules=0,
        details={"kind": KIND, "n_virtual_tokens": n_tokens},
    )


def read(folder: Path) -> Floats:
    """The table of a folder that was checked, (n_virtual_tokens, hidden)."""
    return SafetensorsFile.open(folder / WEIGHTS_FILE).read(TENSOR)


def _shape(file: SafetensorsFile, config: PromptConfig) -> tuple[int, int]:
    """(virtual tokens, hidden) of the tensor, in agreement with the config."""
    others = sorted(name for name in file.tensors if name != TENSOR)
    if others:
        raise AdapterRefused(
            "unknown_tensors",
            f"{others[0]!r} does not belong to a soft prompt; save with PeftModel.save_pretrained, which writes "
            f"{TENSOR!r} alone",
        )
    if TENSOR not in file.tensors:
        raise AdapterRefused("empty", f"{WEIGHTS_FILE} holds no {TENSOR!r}; train the prompt and save it again")
    info = file.tensors[TENSOR]
    if info.dtype not in FLOATS:
        raise AdapterRefused("wrong_dtype", f"{TENSOR!r} is {info.dtype}; save the prompt in {', '.join(FLOATS)}")
    expected = [config.n_virtual_tokens, *([] if config.hidden is None else [config.hidden])]
    if len(info.shape) != 2 or 0 in info.shape or list(info.shape[: len(expected)]) != expected:
        raise AdapterRefused(
            "bad_shape",
            f"{TENSOR!r} has shape {list(info.shape)} where the config says {config.n_virtual_tokens} virtual tokens "
            f"of {config.hidden or 'some'} numbers; save the prompt again",
        )
    return info.shape[0], info.shape[1]


def _check_room(n_tokens: int, base: BaseModel) -> None:
    most = min(MOST_VIRTUAL_TOKENS, base.context_tokens // 2)
    if n_tokens > most:
        raise AdapterRefused(
            "too_many_virtual_tokens",
            f"the prompt has {n_tokens} virtual tokens, which every request would carry, and this server takes up to "
            f"{most}; train with fewer",
        )


def _check_base(hidden: int, base: BaseModel) -> None:
    served = _tokens_of(base)
    if served is None or hidden == served[1]:
        return
    raise AdapterRefused(
        "smaller_base" if hidden < served[1] else "larger_base",
        f"the prompt's vectors have {hidden} numbers and the base's embeddings have {served[1]}; "
        "use a prompt trained on this base",
    )


def _tokens_of(base: BaseModel) -> tuple[str, int] | None:
    """The module that embeds tokens and the length of its vectors: of all tables the one with most rows."""
    if not base.embeddings:
        return None
    name = max(base.embeddings, key=lambda module: base.embeddings[module][1])
    return name, base.embeddings[name][0]


def _length_beside_tokens(vectors: Floats, base: BaseModel) -> float:
    """The root mean square of the prompt's numbers as a multiple of that of the base's token embeddings."""
    found = _tokens_of(base)
    own = float(np.sqrt(np.mean(np.square(vectors, dtype=np.float64))))
    if found is None:
        return own
    hidden, rows = base.embeddings[found[0]]
    usual = base.norm(found[0]) / math.sqrt(hidden * rows)
    return own / usual if usual else own
