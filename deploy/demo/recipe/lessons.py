"""What the base learns from, drawn step by step: mostly reading from sources, then talk, then books."""

from __future__ import annotations

import random
import tempfile
from contextlib import closing
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from server.grounding import Shown

from . import rows
from .conversations import Conversation, Conversations
from .documents import DocumentReadings
from .folder import DataFolder
from .natural import NaturalReadings
from .reading import NOT_SAID, FactReadings, Reading
from .store import DocumentStore

TALK_SHARE, BOOK_SHARE = 0.2, 0.02
# of what is read
FACTS_SHARE, DOCUMENTS_SHARE, NATURAL_SHARE, GREETED_SHARE = 0.63, 0.2, 0.08, 0.04
UNANSWERED_SHARE = 0.15
FOUND_SOURCES = 3  # as guide.json has it
EASY_STEPS = 300  # at first one fact a source, and a little more with every step
EASY_SHARE = 0.3  # stays easy: short rows, many answers


class Lessons:
    """Draws rows; the same step gives the same ones in every run, also in a resumed one."""

    def __init__(self, data: DataFolder, tokenizer: PreTrainedTokenizerFast) -> None:
        self._data = data
        self._tokenizer = tokenizer
        self._conversations = Conversations(data)
        self._facts = FactReadings()
        self._documents = DocumentReadings(_found())
        self._natural = NaturalReadings(data)

    def of_step(self, step: int, n_tokens: int) -> list[rows.Row]:
        """About `n_tokens` tokens."""
        dice = random.Random(step)
        ease = max(0.0, 1.0 - step / EASY_STEPS)
        drawn: list[rows.Row] = []
        while sum(len(tokens) for tokens, _ in drawn) < n_tokens:
            drawn.append(rows.thinned(self._row(dice, ease), dice))
        return drawn

    def _row(self, dice: random.Random, ease: float) -> rows.Row:
        kind = dice.random()
        if kind < TALK_SHARE:
            length = dice.choices((256, 1024, 2048), (96, 3, 1))[0]
            return rows.packed(self._conversations.draw, self._tokenizer, dice, length)
        if kind < TALK_SHARE + BOOK_SHARE:
            return rows.book(self._data, self._tokenizer, dice, 256)
        ease = 1.0 if dice.random() < EASY_SHARE else ease
        return rows.conversation(self.read(dice, ease), self._tokenizer, rows.SOURCE_WEIGHT)

    def read(self, dice: random.Random, ease: float = 0.0) -> Conversation:
        """A conversation whose last question comes with sources."""
        return self._conversations.grounded(dice, self._reading(dice, ease))

    def _reading(self, dice: random.Random, ease: float) -> Reading:
        kind = dice.random()
        answered = dice.random() >= UNANSWERED_SHARE
        if kind < FACTS_SHARE:
            return self._facts.draw(dice, ease=ease, answered=answered)
        kind -= FACTS_SHARE
        if kind < DOCUMENTS_SHARE:
            return self._documents.draw(dice, answered=answered)
        kind -= DOCUMENTS_SHARE
        if kind < NATURAL_SHARE:
            return self._natural.draw(dice, self._facts.shown, answered=answered)
        kind -= NATURAL_SHARE
        sources = self._documents.any_sources(dice) if dice.random() < 0.7 else ()
        if kind < GREETED_SHARE:
            question, said, language = self._conversations.small_talk(dice)
            return Reading(question=question, sources=sources, answer=said.plain(language), language=language)
        if sources or dice.random() < 0.5:
            question, language = self._conversations.elsewhere(dice)
        else:
            drawn = self._documents.draw(dice)
            question, language = drawn.question, drawn.language
        return Reading(question=question, sources=sources, answer=NOT_SAID.plain(language), language=language)


def _found() -> dict[str, tuple[Shown, ...]]:
    """What the server's search gives for each question about the documents that is trained on."""
    questions = [question for asked in DocumentReadings().asked for question in asked.questions[:-1]]
    with tempfile.TemporaryDirectory() as folder, closing(DocumentStore(Path(folder))) as store:
        return {question: store.sources(question, FOUND_SOURCES) for question in questions}
