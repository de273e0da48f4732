"""What vLLM 0.32 does wrong with adapters on a CPU, mended in its own processes.

Base rows: a token without adapter has the index -1. The GPU's kernels pass such a token over; the torch functions that
the CPU uses take -1 as Python does, the last slot. As soon as all slots are full and a batch holds both kinds, the base
answers with the last slot's adapter. Here such tokens go in as zeros, so that nothing is added to them.

Int8 weights: their kernel without AMX packs the weight and leaves None in its place. The adapter layers ask that place
for its device, and the engine does not start. Here something empty is left there.

vLLM calls `mend` in each of its processes (entry point `vllm.general_plugins`). On a GPU nothing of this is in use.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

NAMES = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")  # the `sgmv_` functions call these
USERS = ("vllm.lora.ops.torch_ops", "vllm.lora.punica_wrapper.punica_cpu")  # who may have them by name already

Kernel = Callable[..., None]


def mend() -> None:
    """Replace vLLM's functions, once per process."""
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
    if multiprocessing.current_process().name.startswith("VllmWorker"):  # others would import seconds' worth for it
        _mend_int8()


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


def with_a_weight(process: Callable[[Any, torch.nn.Module], None]) -> Callable[[Any, torch.nn.Module], None]:
    """The kernel's packing step, after which `layer.weight` is a tensor, if an empty one."""

    @wraps(process)
    def mended(kernel: Any, layer: torch.nn.Module) -> None:
        process(kernel, layer)
        if layer.weight is None:
            layer.weight = torch.nn.Parameter(torch.empty(0, dtype=torch.int8), requires_grad=False)

    return mended


def _mend_int8() -> None:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.model_executor.kernels.linear.scaled_mm.cpu import CPUInt8ScaledMMLinearKernel as Int8

    if not hasattr(Int8.process_weights_after_loading, "__wrapped__"):
        Int8.process_weights_after_loading = with_a_weight(Int8.process_weights_after_loading)
