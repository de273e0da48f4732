"""Muon, the optimizer for matrices: momentum whose singular values are all made about one.

https://kellerjordan.github.io/posts/muon/. torch has it too, but computes it in bf16, which takes twenty times as long
on processors that have no instructions for that; and here matrices of one shape go through it together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

STEPS, A, B, C = 5, 3.4445, -4.7750, 2.0315  # of the Newton-Schulz iteration, as its author gives them


class Muon(torch.optim.Optimizer):
    """For two-dimensional weights only."""

    def __init__(self, weights: Iterable[torch.nn.Parameter], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape.setdefault(tuple(weight.shape), []).append(weight)
            for shape, weights in by_shape.items():
                directions = orthogonal(torch.stack([self._moved(weight, group["momentum"]) for weight in weights]))
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for weight, direction in zip(weights, directions, strict=True):
                    weight.sub_(direction, alpha=rate)

    def _moved(self, weight: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        """Nesterov's momentum."""
        state = self.state[weight]
        kept = state.setdefault("momentum", torch.zeros_like(weight))
        kept.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(kept, momentum)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns): each the nearest matrix, roughly, whose singular values are one."""
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(STEPS):
        square = x @ x.mT
        x = A * x + (B * square + C * square @ square) @ x
    return x.mT if tall else x
