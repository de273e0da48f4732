"""On the CPU, answers of the base model are the base model's, also beside adapters.

vLLM 0.32 marks a token without adapter by the index -1. Its GPU kernels pass such a token over; the torch functions
that the CPU uses take -1 as Python does, the last slot. As soon as all slots are full and a batch holds both kinds, the
base answers with the last slot's adapter. Here such tokens go in as zeros, so that nothing is added to them.

vLLM calls `mend` in each of its processes (entry point `vllm.general_plugins`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

NAMES = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")  # the `sgmv_` functions call these
USERS = ("vllm.lora.ops.torch_ops", "vllm.lora.punica_wrapper.punica_cpu")  # who may have them by name already

Kernel = Callable[..., None]


def mend() -> None:
    """Replace vLLM's functions, once per process. The GPU's kernels are others and stay as they are."""
    from vllm.lora.ops.torch_ops import lora_ops

    for name in NAMES:
        kernel = getattr(lora_ops, name)
        if hasattr(kernel, "__wrapped__"):
            continue
        mended = without_base_rows(kernel)
        setattr(lora_ops, name, mended)
        for user in USERS:
            if user in sys.modules:
                setattr(sys.modules[user], name, mended)


def without_base_rows(kernel: Kernel) -> Kernel:
    """The kernel, with zeros for the rows of `inputs` (tokens, features) whose index is negative."""

    @wraps(kernel)
    def mended(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        indices: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        base = indices < 0
        if base.any():
            inputs = inputs.masked_fill(base.unsqueeze(-1), 0)
        kernel(inputs, weights, output, indices, *args, **kwargs)

    return mended
