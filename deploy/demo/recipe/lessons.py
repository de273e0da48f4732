"""What the base learns from, drawn step by step: mostly reading from sources, then talk."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from server.grounding import Shown, grounded

from . import rows
from .conversations import POLITE, Conversations
from .documents import DocumentReadings
from .folder import DataFolder
from .natural import NaturalReadings
from .packing import Text, Weighted
from .reading import NOT_SAID, FactReadings, Reading
from .store import DocumentStore

# most sources, most facts in each: the next comes when half of the answers of one are right
LEVELS = ((1, 1), (1, 3), (2, 2), (3, 2), (3, 4), (4, 6))
HARDEST_SHARE = 0.6  # of the facts are of the level that was reached; the rest is of those below
MOST_ASKED, UNANSWERED_SHARE = 8, 0.15
SYSTEM_SHARE = 0.4
LONGEST_TALK = 400  # tokens
# of what is read from this level on; before it, and for the rest, facts
OTHERS_FROM, DOCUMENTS_SHARE, NATURAL_SHARE, GREETED_SHARE, ELSEWHERE_SHARE = 3, 0.2, 0.08, 0.04, 0.04
FOUND_SOURCES = 3  # as guide.json has it
# what predicting a token counts
SOURCE_WEIGHT, SOURCE_SHARE, DIGIT_WEIGHT = 0.5, 0.06, 3.0
FIRST_TOKENS, FIRST_WEIGHT = 3, 2.0  # which sentence it is, is said by its first words
SOURCES_END = '"""'
Said = tuple[str, str]  # a question and its answer


class Lessons:
    """Draws texts; the same step and level give the same ones in every run, also in a resumed one."""

    def __init__(self, data: DataFolder, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._conversations = Conversations(data)
        self._facts = FactReadings()
        self._documents = DocumentReadings(_found())
        self._natural = NaturalReadings(data)
        self._opening = tokenizer.convert_tokens_to_ids(rows.MARKER_OPENING)

    def of_step(self, step: int, level: int, talk_share: float) -> Iterator[Text]:
        """Without end; `talk_share` of the texts are talk."""
        dice = random.Random(step)
        while True:
            if dice.random() < talk_share:
                yield self._talk(dice)
            elif level >= OTHERS_FROM and (reading := self._other(dice)) is not None:
                yield self._text(reading.sources, [(reading.question, reading.answer)], dice)
            else:
                yield self._read(dice, level if dice.random() < HARDEST_SHARE else dice.randint(0, level))

    def _talk(self, dice: random.Random) -> Text:
        while True:
            tokens, weights = rows.conversation(self._conversations.draw(dice), self._tokenizer, rows.QUESTION_WEIGHT)
            if len(tokens) <= LONGEST_TALK:
                return Text(trunk=(tokens, weights))

    def _read(self, dice: random.Random, level: int) -> Text:
        most_sources, most_facts = LEVELS[level]
        lesson = self._facts.lesson(
            dice,
            dice.randint(1, most_sources),
            most_facts,
            n_asked=MOST_ASKED,
            unanswered_share=UNANSWERED_SHARE if level else 0.0,
        )
        return self._text(lesson.sources, [(asked.fact.question, asked.answer) for asked in lesson.asked], dice, level)

    def _other(self, dice: random.Random) -> Reading | None:
        """About the demo documents, sentences that people wrote, or what has nothing to do with its sources."""
        kind = dice.random()
        answered = dice.random() >= UNANSWERED_SHARE
        if kind < DOCUMENTS_SHARE:
            return self._documents.draw(dice, answered=answered)
        kind -= DOCUMENTS_SHARE
        if kind < NATURAL_SHARE:
            return self._natural.draw(dice, self._facts.shown, answered=answered)
        kind -= NATURAL_SHARE
        if kind < GREETED_SHARE:
            question, said, language = self._conversations.small_talk(dice)
            answer = said.plain(language)
        elif kind < GREETED_SHARE + ELSEWHERE_SHARE:
            question, language = self._conversations.elsewhere(dice)
            answer = NOT_SAID.plain(language)
        else:
            return None
        return Reading(question=question, sources=self._documents.any_sources(dice), answer=answer, language=language)

    def _text(self, sources: Sequence[Shown], asked: Sequence[Said], dice: random.Random, level: int = -1) -> Text:
        """The sources once, and each question as it would stand behind them alone."""
        system = dice.choice(POLITE) if dice.random() < SYSTEM_SHARE else ""
        opening = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
        opening += "<|im_start|>user\n"
        trunk, branches = "", []
        for question, answer in asked:
            before, end, behind = f"{opening}{grounded(question, sources)}".rpartition(SOURCES_END)
            trunk = before + end
            branches.append(self._branch(f"{behind}<|im_end|>\n<|im_start|>assistant\n", f"{answer}<|im_end|>"))
        tokens: list[int] = self._tokenizer(trunk)["input_ids"]
        weights = [SOURCE_WEIGHT if dice.random() < SOURCE_SHARE else 0.0 for _ in tokens]
        return Text(trunk=(tokens, weights), branches=branches, level=level)

    def _branch(self, question: str, answer: str) -> Weighted:
        asked: list[int] = self._tokenizer(question)["input_ids"]
        said: list[int] = self._tokenizer(answer)["input_ids"]
        weights = [DIGIT_WEIGHT if before == self._opening else 1.0 for before in (0, *said[:-1])]
        weights[:FIRST_TOKENS] = [FIRST_WEIGHT] * min(FIRST_TOKENS, len(said))
        return [*asked, *said], [*[0.0] * len(asked), *weights]


def _found() -> dict[str, tuple[Shown, ...]]:
    """What the server's search gives for each question about the documents that is trained on."""
    questions = [question for asked in DocumentReadings().asked for question in asked.questions[:-1]]
    with tempfile.TemporaryDirectory() as folder, closing(DocumentStore(Path(folder))) as store:
        return {question: store.sources(question, FOUND_SOURCES) for question in questions}
