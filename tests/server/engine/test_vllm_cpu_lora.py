"""Tokens of the base model in a batch with adapters, and packed weights, by what vLLM does on the CPU."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from server.engine import vllm_cpu_lora

SLOTS, TOKENS, WIDTH, RANK = 3, 4, 8, 2
INDICES = torch.tensor([0, -1, 2, -1])


def _shrink(inputs: Any, weights: Any, output: Any, indices: Any, scaling: float = 1.0) -> None:
    """What vLLM's function does: the weights are taken by Python's own indexing."""
    output[:] = scaling * torch.einsum("bi,boi->bo", inputs, weights[indices])


def _expand(inputs: Any, weights: Any, output: Any, indices: Any, add_inputs: bool = True) -> None:
    made = torch.einsum("bi,boi->bo", inputs, weights[indices])
    output[:] = output + made if add_inputs else made


def test_only_tokens_of_an_adapter_are_changed() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(TOKENS, WIDTH)
    down, up = torch.randn(SLOTS, RANK, WIDTH), torch.randn(SLOTS, WIDTH, RANK)

    def applied(mend: Callable[[Any], Any]) -> torch.Tensor:
        small, output = torch.zeros(TOKENS, RANK), torch.ones(TOKENS, WIDTH)
        mend(_shrink)(inputs, down, small, INDICES, 0.5)
        mend(_expand)(small, up, output, INDICES, add_inputs=True)
        return output

    mended, unmended = applied(vllm_cpu_lora.without_base_rows), applied(lambda kernel: kernel)
    base = INDICES < 0
    assert torch.equal(mended[base], torch.ones(2, WIDTH))
    assert not torch.allclose(unmended[base], torch.ones(2, WIDTH))  # so that this test sees what is mended
    assert torch.equal(mended[~base], unmended[~base])


def test_inputs_stay_as_they_are() -> None:
    inputs = torch.ones(TOKENS, WIDTH)
    shrink = vllm_cpu_lora.without_base_rows(_shrink)
    shrink(inputs, torch.ones(SLOTS, RANK, WIDTH), torch.zeros(TOKENS, RANK), INDICES)
    assert torch.equal(inputs, torch.ones(TOKENS, WIDTH))


def test_a_packed_weight_leaves_an_empty_one() -> None:
    def pack(kernel: object, layer: torch.nn.Module) -> None:
        if packs:
            layer.weight = None  # type: ignore[assignment]  # as vLLM's kernel does

    mended = vllm_cpu_lora.with_a_weight(pack)
    layer = torch.nn.Linear(2, 3)
    packs = False
    mended(None, layer)
    assert layer.weight.shape == (3, 2)
    packs = True
    mended(None, layer)
    assert layer.weight.device.type == "cpu"
    assert layer.weight.numel() == 0


def test_vllm_finds_it() -> None:
    (entry,) = importlib.metadata.entry_points(group="vllm.general_plugins", name="manyhats_cpu_lora")
    assert entry.load() is vllm_cpu_lora.mend


@pytest.mark.engine
def test_vllm_s_own_functions_are_replaced_once() -> None:
    """In a process of its own: vLLM's import takes seconds and memory that other tests need not carry."""
    script = """
import torch
from server.engine.vllm_cpu_lora import mend
from vllm.lora.ops import torch_ops
mend(); mend()
out = torch.ones(2, 4)
torch_ops.sgmv_expand(torch.ones(2, 2), torch.ones(1, 4, 2), out, None, torch.tensor([1, 1]),
                      torch.tensor([0, -1]), 2, 1, 2, True)
assert out.tolist() == [[3.0] * 4, [1.0] * 4], out
assert not hasattr(torch_ops.bgmv_expand.__wrapped__, "__wrapped__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
