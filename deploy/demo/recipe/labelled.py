"""Tasks of labels: a text in, one of a few short labels out, as plain greedy text and not by a head of its own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .answers import user
from .conversations import POLITE, Conversation, Message
from .held import Held, Scores
from .lora import Plan

CONVERSATIONS = 8  # per step: few, since a label says little and a step with 24 takes three times as long
BALANCE = 0.5  # a label is drawn by the root of its share: rare ones more often than they come, common ones still more
INSTRUCTED_SHARE = 0.2  # of conversations that open with a system prompt, the task's own among them


Rate = Callable[[Sequence["Example"], Sequence[str]], float]  # what answers are worth, from 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    text: str
    label: str


def plan(name: str, taught: Sequence[Example], instruction: str, *, steps: int) -> Plan:
    """An adapter that learns these labels."""
    return Plan(name=name, draw=Labelling(taught, instruction).draw, steps=steps, conversations=CONVERSATIONS)


def held(
    kept: Sequence[Example],
    taught: Sequence[Example],
    instruction: str,
    *,
    score: str,
    rate: Rate,
    most_tokens: int,
) -> Held:
    """What is kept, scored under a name; without a model, always the label that is taught most often."""

    def scored(said: Sequence[str]) -> Scores:
        return {score: rate(kept, said)}

    return Held(
        asked=[example.text for example in kept],
        instruction=instruction,
        score=scored,
        most_tokens=most_tokens,
        no_model=scored([most_frequent(taught)] * len(kept)),
    )


def apart(taught: Sequence[Example], kept: Sequence[Example]) -> list[Example]:
    """What is taught without the texts that are kept for measuring, in whatever case and spacing they come there."""
    measured = {plain(example.text) for example in kept}
    return [example for example in taught if plain(example.text) not in measured]


class Labelling:
    """Draws conversations for an adapter: texts and their labels, one to three turns."""

    def __init__(self, taught: Sequence[Example], instruction: str) -> None:
        self._instruction = instruction
        self._texts: dict[str, list[str]] = {}
        for example in taught:
            self._texts.setdefault(example.label, []).append(example.text)
        self._labels = sorted(self._texts)
        self._shares = [len(self._texts[label]) ** BALANCE for label in self._labels]

    def draw(self, dice: random.Random) -> Conversation:
        messages: list[Message] = []
        if dice.random() < INSTRUCTED_SHARE:
            messages.append({"role": "system", "content": dice.choice((*POLITE, self._instruction))})
        for _ in range(dice.choice((1, 1, 2, 3))):
            (label,) = dice.choices(self._labels, self._shares)
            messages += [user(dice.choice(self._texts[label])), {"role": "assistant", "content": label}]
        return Conversation(messages=messages)


def accuracy(kept: Sequence[Example], said: Sequence[str]) -> float:
    """Share of texts that got their label, and nothing else, from 0 to 1."""
    right = [example.label == one for example, one in zip(kept, said, strict=True)]
    return round(sum(right) / len(right), 3)


def macro_f1(kept: Sequence[Example], said: Sequence[str]) -> float:
    """Mean over the labels of F1 = 2·hits / (texts of the label + answers of it), from 0 to 1.

    An answer that is no label is an answer of none, and misses its text's.
    """
    texts, told = Counter(example.label for example in kept), Counter(said)
    hits = Counter(example.label for example, one in zip(kept, said, strict=True) if example.label == one)
    return round(sum(2 * hits[label] / (texts[label] + told[label]) for label in texts) / len(texts), 3)


def most_frequent(examples: Sequence[Example]) -> str:
    return Counter(example.label for example in examples).most_common(1)[0][0]


def plain(text: str) -> str:
    """A text by which it is recognized in whatever case and spacing."""
    return " ".join(text.casefold().split())
