"""Rows of a fixed length in which several texts lie side by side, and several questions share their sources.

A text is a trunk, and branches that go on from it; a branch sees the trunk and itself, at the places that it would have
were it alone. So the sources of eight questions are read once, and each question is exactly the server's prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

MISSES = 5
Weighted = tuple[list[int], list[float]]  # tokens, and how much predicting each of them counts


@dataclass(frozen=True, kw_only=True)
class Text:
    """Sources with their questions, or a conversation without branches."""

    trunk: Weighted
    branches: Sequence[Weighted] = ()
    level: int = -1  # of the facts, by which answers are counted; -1 counts none

    @property
    def length(self) -> int:
        return len(self.trunk[0]) + sum(len(tokens) for tokens, _ in self.branches)


@dataclass(kw_only=True)
class Batch:
    """What one pass takes: (rows, length) each, but for the mask, (rows, 1, length, length)."""

    tokens: torch.Tensor
    targets: torch.Tensor  # the token that follows, 0 where nothing does
    weights: torch.Tensor  # of the targets
    places: torch.Tensor
    answers: torch.Tensor  # which answer a target belongs to, counted from 1; 0 none
    levels: list[int]  # of each answer
    mask: torch.Tensor


@dataclass(kw_only=True)
class _Row:
    tokens: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def add(self, part: Weighted, *, start: int, text: int, branch: int, answer: int) -> None:
        tokens, weights = part
        self.tokens += tokens
        self.targets += [*tokens[1:], 0]
        self.weights += [*weights[1:], 0.0]
        self.places += range(start, start + len(tokens))
        self.texts += [text] * len(tokens)
        self.branches += [branch] * len(tokens)
        self.answers += [answer if weight >= 1.0 else 0 for weight in (*weights[1:], 0.0)]


def batch(texts: Iterable[Text], *, rows: int, length: int) -> Batch:
    """As many texts as fill so many rows; one that fits no row is left out, and the fifth such ends it."""
    filled = [_Row() for _ in range(rows)]
    levels: list[int] = []
    misses = 0
    for number, text in enumerate(texts, 1):
        fitting = [row for row in filled if len(row.tokens) + text.length <= length]
        if not fitting:
            misses += 1
            if misses == MISSES:
                break
            continue
        row = max(fitting, key=lambda row: len(row.tokens))
        row.add(text.trunk, start=0, text=number, branch=0, answer=0)
        for branch, part in enumerate(text.branches, 1):
            levels.append(text.level)
            row.add(part, start=len(text.trunk[0]), text=number, branch=branch, answer=len(levels))
    for row in filled:
        rest = length - len(row.tokens)
        if rest:
            row.add(([0] * rest, [0.0] * rest), start=0, text=0, branch=0, answer=0)
    in_text, in_branch = (torch.tensor([getattr(row, name) for row in filled]) for name in ("texts", "branches"))
    seen = (in_text[:, :, None] == in_text[:, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
    seen &= (in_branch[:, None, :] == 0) | (in_branch[:, :, None] == in_branch[:, None, :])
    return Batch(
        **{
            name: torch.tensor([getattr(row, name) for row in filled])
            for name in ("tokens", "targets", "weights", "places", "answers")
        },
        levels=levels,
        mask=torch.zeros(rows, 1, length, length).masked_fill(~seen[:, None], -1e9),
    )
