"""SARI (Xu et al., Optimizing Statistical Machine Translation for Text Simplification, TACL 2016), one reference each.

It asks of a simplified sentence whether it adds, keeps and deletes what the reference adds, keeps and deletes: n-grams
of one to four words; F1 for what is added and kept, precision for what is deleted, over all sentences together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 4  # words of an n-gram
WORD = re.compile(r"\w+|[^\w\s]")
Grams = Counter[tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simplified:
    """A sentence, what a model made of it, and what a person did."""

    source: str
    said: str
    reference: str


def sari(told: Sequence[Simplified]) -> float:
    """From 0 to 100; what nobody adds, keeps or deletes counts as done rightly."""
    lengths = range(1, LONGEST + 1)
    return 100 * sum(_of_length(told, length) for length in lengths) / LONGEST


def shared_words(told: Sequence[Simplified]) -> float:
    """Mean over the sentences of F1 = 2·words in common / (words said + words of the reference), from 0 to 1."""
    each = []
    for one in told:
        said, reference = _grams(one.said, 1), _grams(one.reference, 1)
        each.append(2 * (said & reference).total() / max(1, said.total() + reference.total()))
    return sum(each) / len(each)


def _of_length(told: Sequence[Simplified], length: int) -> float:
    added, kept, deleted = _Tally(), _Tally(), _Tally()
    for one in told:
        source, said, reference = (_grams(text, length) for text in (one.source, one.said, one.reference))
        added.count(_new(said, source), _new(reference, source))
        kept.count(said & source, reference & source)
        deleted.count(source - said, source - reference)
    return (added.f1 + kept.f1 + deleted.precision) / 3


class _Tally:
    """N-grams done by the model, by the reference, and by both."""

    def __init__(self) -> None:
        self._done = self._wanted = self._both = 0

    def count(self, done: Grams, wanted: Grams) -> None:
        self._done += done.total()
        self._wanted += wanted.total()
        self._both += (done & wanted).total()

    @property
    def precision(self) -> float:
        return self._both / self._done if self._done else float(not self._wanted)

    @property
    def f1(self) -> float:
        total = self._done + self._wanted
        return 2 * self._both / total if total else 1.0


def _grams(text: str, length: int) -> Grams:
    words = WORD.findall(text.lower())
    return Counter(zip(*(words[start:] for start in range(length)), strict=False))


def _new(grams: Grams, source: Grams) -> Grams:
    """As the paper has it: each n-gram that the source has nowhere, once."""
    return Counter({gram: 1 for gram in grams if gram not in source})
