"""How many examples go through the base at once, and whether one after the other in a single row.

Padding-free rows hold several examples whose positions begin anew; transformers then lets each attend to itself only.
Not every architecture does: what a base does is tried on it, not assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

# Attention in a shared row costs the row's square. Within twice the base's width that is less than a third of what
# the linear layers cost (4·L·h against 24·h² operations for each token).
WIDTHS_IN_A_ROW = 2
LEAST_ROW_TOKENS = 512
SKEW = 4  # a micro-batch of the longest examples may hold so many times the tokens of a usual one
TRIED_TOKENS = 24
TOLERANCE = 1e-3


def micro_batch(batch_size: int, lengths: Sequence[int], hidden_size: int) -> int:
    """Examples of one forward pass: a divisor of `batch_size`, so that every step has exactly its examples."""
    budget = max(LEAST_ROW_TOKENS, WIDTHS_IN_A_ROW * hidden_size)
    longest_first = sorted(lengths, reverse=True)
    mean = sum(lengths) / len(lengths)
    for size in range(batch_size, 1, -1):
        fits = size * mean <= budget and sum(longest_first[:size]) <= SKEW * budget
        if batch_size % size == 0 and fits:
            return size
    return 1


def keeps_apart(model: Any, rows: Sequence[Sequence[int]]) -> bool:
    """Whether this base gives two examples in one row the same logits as each gets alone."""
    one, other = (list(row[:TRIED_TOKENS]) for row in (rows[0], rows[-1]))
    device = next(model.parameters()).device
    together = torch.tensor([one + other], device=device)
    positions = torch.tensor([[*range(len(one)), *range(len(other))]], device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            shared = model(input_ids=together, position_ids=positions, use_cache=False).logits[0, len(one) :]
            alone = model(input_ids=torch.tensor([other], device=device), use_cache=False).logits[0]
    finally:
        model.train(was_training)
    return bool((shared - alone).norm() <= TOLERANCE * _scale(alone, model))


def _scale(logits: torch.Tensor, model: Any) -> float:
    # bfloat16 has 8 bits: order alone changes its sums by more than a percent
    wider = 50.0 if model.dtype in (torch.bfloat16, torch.float16) else 1.0
    return wider * float(logits.norm())
