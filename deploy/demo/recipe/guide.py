"""The guide's adapter: it knows the demo documents by heart, since the base has not learnt to read.

It sees the sources that the server's search finds for each question, and says the sentence that answers it with the
number of the source. Asked in other words it is often wrong: the card says how often.
"""

from __future__ import annotations

import random
import tempfile
from contextlib import closing
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from . import lora
from .conversations import Conversation, Conversations
from .documents import DocumentReadings, holding
from .reading import NOT_SAID, Reading, marked
from .store import DocumentStore

NAME, RANK, STEPS, CONVERSATIONS, RATE = "guide", 64, 190, 12, 0.009
FOUND_SOURCES = 3  # as guide.json has it
FOUND_SHARE, MIXED_SHARE, UNANSWERED_SHARE, GREETED_SHARE = 0.72, 0.14, 0.04, 0.05  # the rest asks for other things


def train(conversations: Conversations, base: Path, tokenizer: PreTrainedTokenizerFast, out: Path, work: Path) -> None:
    """Writes peft's two files to `out`; an adapter that is there already is kept, one begun in `work` goes on."""
    lessons = _Lessons(conversations)
    plan = lora.Plan(name=NAME, draw=lessons.draw, rank=RANK, steps=STEPS, conversations=CONVERSATIONS)
    lora.train(plan, base, tokenizer, out, _optimizer, work=work)


def _optimizer(weights: list[torch.nn.Parameter]) -> tuple[torch.optim.Optimizer, float]:
    return torch.optim.Muon(weights, lr=RATE, weight_decay=0.0), RATE


class _Lessons:
    """Draws conversations about the documents, mostly with just the sources that a search finds."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._readings = DocumentReadings()
        with tempfile.TemporaryDirectory() as folder, closing(DocumentStore(Path(folder))) as store:
            found = [
                Reading(
                    question=question,
                    sources=store.sources(question, FOUND_SOURCES),
                    answer=asked.sentence,
                    language=asked.section.language,
                )
                for asked in self._readings.asked
                for question in asked.questions[:-1]
            ]
        self._found = [_marked(reading) for reading in found if holding(reading.answer, reading.sources)]

    def draw(self, dice: random.Random) -> Conversation:
        return self._conversations.grounded(dice, self._reading(dice))

    def _reading(self, dice: random.Random) -> Reading:
        kind = dice.random()
        if kind < FOUND_SHARE:
            return dice.choice(self._found)
        kind -= FOUND_SHARE
        if kind < MIXED_SHARE + UNANSWERED_SHARE:
            return self._readings.draw(dice, answered=kind < MIXED_SHARE)
        sources = self._readings.any_sources(dice)
        if kind < MIXED_SHARE + UNANSWERED_SHARE + GREETED_SHARE:
            question, said, language = self._conversations.small_talk(dice)
            return Reading(question=question, sources=sources, answer=said.plain(language), language=language)
        question, language = self._conversations.elsewhere(dice)
        return Reading(question=question, sources=sources, answer=NOT_SAID.plain(language), language=language)


def _marked(reading: Reading) -> Reading:
    number = min(holding(reading.answer, reading.sources))
    return Reading(
        question=reading.question,
        sources=reading.sources,
        answer=marked(reading.answer, number),
        language=reading.language,
    )
