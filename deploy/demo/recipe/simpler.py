"""`simples`: a Portuguese sentence in, the same thing in simpler words out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from . import sari
from .answers import user
from .conversations import POLITE, Conversation
from .folder import SIMPLER, DataFolder
from .held import Held, Scores
from .lora import Plan

NAME, STEPS, CONVERSATIONS = "simples", 500, 8
INSTRUCTION = "Escreva esta frase em palavras mais simples."
INSTRUCTED_SHARE = 0.2  # of conversations that open with a system prompt, this instruction among them
KEPT_EVERY = 8  # of the articles one in so many is for measuring: the data have no part of their own for it
MOST_WORDS = 30
Pair = tuple[str, str]  # a sentence, and how an editor simplified it


def plan(data: DataFolder) -> Plan:
    """Sentences of Brazilian news and what an editor made of them."""
    return Plan(name=NAME, draw=Simplifying(read(data).taught).draw, steps=STEPS, conversations=CONVERSATIONS)


def held(data: DataFolder) -> Held:
    """Sentences of other articles."""
    kept = read(data).kept
    asked = [sentence for sentence, _ in kept]
    score = partial(_score, kept)
    return Held(asked=asked, instruction=INSTRUCTION, score=score, no_model=score(asked))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Sentences and their simpler form, whole articles on either side."""

    taught: tuple[Pair, ...]
    kept: tuple[Pair, ...]


def read(data: DataFolder) -> Pairs:
    """PorSimplesSent's pairs that an editor changed, of at most 30 words."""
    taught: list[Pair] = []
    kept: list[Pair] = []
    for row in data.table(SIMPLER):
        pair = row["sentence_text_from"].strip(), row["sentence_text_to"].strip()
        if row["changed"] == "S" and max(len(text.split()) for text in pair) <= MOST_WORDS:
            (kept if int(row["production_id"]) % KEPT_EVERY == 0 else taught).append(pair)
    return Pairs(taught=tuple(taught), kept=tuple(kept))


class Simplifying:
    """Draws conversations: one sentence and its simpler form."""

    def __init__(self, taught: Sequence[Pair]) -> None:
        self._pairs = taught

    def draw(self, dice: random.Random) -> Conversation:
        sentence, simpler = dice.choice(self._pairs)
        messages = [user(sentence), {"role": "assistant", "content": simpler}]
        if dice.random() < INSTRUCTED_SHARE:
            messages.insert(0, {"role": "system", "content": dice.choice((*POLITE, INSTRUCTION))})
        return Conversation(messages=messages)


def _score(kept: Sequence[Pair], said: Sequence[str]) -> Scores:
    """SARI from 0 to 100, and the mean share of words in common with the editor's sentence from 0 to 1."""
    told = [sari.Simplified(source=pair[0], said=one, reference=pair[1]) for pair, one in zip(kept, said, strict=True)]
    return {"SARI": round(sari.sari(told), 1), "shared words": round(sari.shared_words(told), 3)}
