"""Rows of a fixed length in which several texts lie side by side, and several questions share their sources.

A text is a trunk, and branches that go on from it; a branch sees the trunk and itself, at the places that it would have
were it alone. So the sources of eight questions are read once, and each question is exactly the server's prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

MISSES = 8
NOWHERE = -1
Weighted = tuple[list[int], list[float]]  # tokens, and how much predicting each of them counts


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Where in the trunk a branch takes its words from: token for token, and the sentence as a whole."""

    places: list[int]  # of each of the branch's tokens; NOWHERE where it is not a copy
    span: tuple[int, int]
    shared: list[bool]  # tokens of the question that tell the sentence from others


@dataclass(frozen=True, kw_only=True)
class Text:
    """Sources with their questions, or a conversation without branches."""

    trunk: Weighted
    branches: Sequence[Weighted] = ()
    taken: Sequence[Taken] = ()  # of each branch
    starts: Sequence[int] = ()  # of each token of the trunk, where its sentence begins
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
    copied: torch.Tensor  # the place in the row that a target is a copy of; NOWHERE
    starts: torch.Tensor  # of a source's token: where its sentence begins; NOWHERE
    spans: torch.Tensor  # (rows, length, 2): where the sentence that a branch is about begins, and ends; NOWHERE
    shared: torch.Tensor  # (rows, length): words of a question that tell its sentence from others
    branches: torch.Tensor  # (rows, length): the number of a token's branch among the batch's, 0 for sources
    mask: torch.Tensor


@dataclass(kw_only=True)
class _Row:
    trunk: int = 0  # where the trunk of the text at hand begins
    tokens: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    copied: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    shared: list[bool] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def begin(self, text: Text, number: int) -> None:
        """Its trunk."""
        self.trunk = len(self.tokens)
        self._add(text.trunk, start=0, text=number, branch=0, answer=0)
        self.starts += [self.trunk + start for start in text.starts] or [NOWHERE] * len(text.trunk[0])
        self._take(None, len(text.trunk[0]))

    def go_on(self, part: Weighted, taken: Taken | None, *, start: int, text: int, branch: int, answer: int) -> None:
        """A branch; `start`: its place in its text."""
        self._add(part, start=start, text=text, branch=branch, answer=answer)
        self.starts += [NOWHERE] * len(part[0])
        self._take(taken, len(part[0]))

    def fill(self, n: int) -> None:
        """Nothing, so many times."""
        if n == 0:
            return
        self._add(([0] * n, [0.0] * n), start=0, text=0, branch=0, answer=0)
        self.starts += [NOWHERE] * n
        self._take(None, n)

    def _add(self, part: Weighted, *, start: int, text: int, branch: int, answer: int) -> None:
        tokens, weights = part
        self.tokens += tokens
        self.targets += [*tokens[1:], 0]
        self.weights += [*weights[1:], 0.0]
        self.places += range(start, start + len(tokens))
        self.texts += [text] * len(tokens)
        self.branches += [branch] * len(tokens)
        self.answers += [answer if weight >= 1.0 else 0 for weight in (*weights[1:], 0.0)]
        self.numbers += [answer] * len(tokens)

    def _take(self, taken: Taken | None, n: int) -> None:
        if taken is None:
            self.copied += [NOWHERE] * n
            self.spans += [(NOWHERE, NOWHERE)] * n
            self.shared += [False] * n
            return
        self.copied += [place if place == NOWHERE else self.trunk + place for place in (*taken.places[1:], NOWHERE)]
        self.spans += [(self.trunk + taken.span[0], self.trunk + taken.span[1])] * n
        self.shared += taken.shared


def batch(texts: Iterable[Text], *, rows: int, length: int) -> Batch:
    """As many texts as fill so many rows; one that fits no row is left out, and the eighth such ends it."""
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
        row.begin(text, number)
        for branch, part in enumerate(text.branches, 1):
            levels.append(text.level)
            taken = text.taken[branch - 1] if text.taken else None
            row.go_on(part, taken, start=len(text.trunk[0]), text=number, branch=branch, answer=len(levels))
    for row in filled:
        row.fill(length - len(row.tokens))
    in_text, in_branch = (torch.tensor([getattr(row, name) for row in filled]) for name in ("texts", "branches"))
    seen = (in_text[:, :, None] == in_text[:, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()
    seen &= (in_branch[:, None, :] == 0) | (in_branch[:, :, None] == in_branch[:, None, :])
    return Batch(
        **{
            name: torch.tensor([getattr(row, name) for row in filled])
            for name in ("tokens", "targets", "weights", "places", "answers", "copied", "starts", "spans", "shared")
        },
        branches=torch.tensor([row.numbers for row in filled]),
        levels=levels,
        mask=torch.zeros(rows, 1, length, length).masked_fill(~seen[:, None], -1e9),
    )
