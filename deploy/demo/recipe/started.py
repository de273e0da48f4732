"""A base in the middle of its training, kept in the repository: the next training goes on from it, not from nothing.

Eight bits a weight, with a scale for each row: half of bf16, and training mends at once what that loses.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

FILE = Path(__file__).with_name("started.safetensors")
LEVEL = 5  # of lessons, that it had reached
SCALE = ".scale"
LARGEST = 127


@torch.no_grad()
def keep(model: LlamaForCausalLM, path: Path = FILE) -> None:
    """Write the weights, but for a tied output layer."""
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in model.named_parameters():
        if weight.ndim != 2:
            tensors[name] = weight.detach().clone()
            continue
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
        tensors[name] = (weight / scale).round().to(torch.int8)
        tensors[name + SCALE] = scale
    save_file(tensors, path)


@torch.no_grad()
def begin(model: LlamaForCausalLM, path: Path = FILE) -> None:
    """Read them into a model of the same shape."""
    tensors = load_file(path)
    for name, weight in model.named_parameters():
        kept = tensors[name]
        weight.copy_(kept.float() * tensors[name + SCALE] if kept.dtype == torch.int8 else kept)
