"""What the base learns from, drawn step by step: mostly reading from sources, then talk."""

from __future__ import annotations

import random
import re
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from server.grounding import Shown, grounded

from . import rows
from .conversations import POLITE, Conversations
from .documents import DocumentReadings
from .folder import DataFolder
from .natural import NaturalReadings
from .packing import NOWHERE, Taken, Text, Weighted
from .reading import NOT_SAID, FactReadings
from .store import DocumentStore

# most sources, most facts in each: the next comes when half of the answers of one are right
LEVELS = ((1, 1), (1, 3), (2, 2), (3, 2), (3, 4), (4, 6))
HARDEST_SHARE = 0.6  # of the facts are of the level that was reached; the rest is of those below
MOST_ASKED, UNANSWERED_SHARE = 8, 0.42
SYSTEM_SHARE, EARLIER_SHARE = 0.4, 0.2
SAME_SHARE = 0.7  # of earlier turns are about the same sources
LONGEST_TALK = 400  # tokens
# of what is read from this level on; before it, and for the rest, facts
OTHERS_FROM, DOCUMENTS_SHARE, NATURAL_SHARE = 3, 0.3, 0.05
ABSENT_SHARE, GREETED_SHARE, ELSEWHERE_SHARE = 0.8, 0.4, 0.3  # of texts about the documents have such a question too
FOUND_SOURCES = 3  # as guide.json has it
# what predicting a token counts
SOURCE_WEIGHT, SOURCE_SHARE, DIGIT_WEIGHT = 0.5, 0.06, 3.0
FIRST_TOKENS, FIRST_WEIGHT = 3, 2.0  # which sentence it is, is said by its first words
SOURCES_END = '"""'
RARE = 3  # times in all sources: more often, and a word does not tell one sentence from the others
SENTENCE = re.compile(r"(?:\A|\n|(?<=[.?!])\s)(?:- |#+ )?(?=\S)")
CITED = re.compile(r"(.*) \[(\d)\]", re.DOTALL)
Said = tuple[str, str]  # a question and its answer


@dataclass(frozen=True, kw_only=True)
class _Trunk:
    """All that stands before the questions."""

    text: str
    tokens: list[int]
    starts: list[int]  # of each token, its first character
    counts: Counter[str]  # of its words, whatever their case


class Lessons:
    """Draws texts; the same step and level give the same ones in every run, also in a resumed one."""

    def __init__(self, data: DataFolder, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._conversations = Conversations(data)
        self._facts = FactReadings()
        self._documents = DocumentReadings(_found())
        self._natural = NaturalReadings(data)
        self._opening = tokenizer.convert_tokens_to_ids(rows.MARKER_OPENING)
        words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._bare = [word.removeprefix("Ġ").lower() for word in words]  # a word at a sentence's start and in it

    def of_step(self, step: int, level: int, talk_share: float) -> Iterator[Text]:
        """Without end; `talk_share` of the texts are talk."""
        dice = random.Random(step)
        while True:
            if dice.random() < talk_share:
                yield self._talk(dice)
            elif level >= OTHERS_FROM and (kind := dice.random()) < DOCUMENTS_SHARE + NATURAL_SHARE:
                yield self._documented(dice) if kind < DOCUMENTS_SHARE else self._people(dice)
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

    def _documented(self, dice: random.Random) -> Text:
        """About the demo documents, and what has nothing to do with them."""
        first = self._documents.draw(dice)
        others = self._documents.about(first.sources, dice, MOST_ASKED)
        if dice.random() < ABSENT_SHARE:
            others.append(self._documents.missing(first.sources, dice))
        asked = {reading.question: reading.answer for reading in (first, *others)}
        if dice.random() < GREETED_SHARE:
            question, said, language = self._conversations.small_talk(dice)
            asked[question] = said.plain(language)
        if dice.random() < ELSEWHERE_SHARE:
            question, language = self._conversations.elsewhere(dice)
            asked[question] = NOT_SAID.plain(language)
        return self._text(first.sources, dice.sample(list(asked.items()), min(MOST_ASKED, len(asked))), dice)

    def _people(self, dice: random.Random) -> Text:
        """Sentences and questions that people wrote."""
        reading = self._natural.draw(dice, self._facts.shown, answered=dice.random() >= UNANSWERED_SHARE)
        return self._text(reading.sources, [(reading.question, reading.answer)], dice)

    def _text(self, sources: Sequence[Shown], asked: Sequence[Said], dice: random.Random, level: int = -1) -> Text:
        """The sources once, and each question as it would stand behind them alone."""
        opening, asked = self._before(asked, dice)
        parted = [self._parted(opening, question, sources) for question, _ in asked]
        trunk = self._trunk(parted[0][0])
        branches, taken = [], []
        for (_, behind), (_, answer) in zip(parted, asked, strict=True):
            branches.append(self._branch(f"{behind}<|im_end|>\n<|im_start|>assistant\n", f"{answer}<|im_end|>"))
            taken.append(self._taken(trunk, answer, branches[-1]))
        weights = [SOURCE_WEIGHT if dice.random() < SOURCE_SHARE else 0.0 for _ in trunk.tokens]
        return Text(
            trunk=(trunk.tokens, weights),
            branches=branches,
            taken=taken,
            starts=_sentences(trunk.text, trunk.starts),
            level=level,
        )

    def _before(self, asked: Sequence[Said], dice: random.Random) -> tuple[str, Sequence[Said]]:
        """What stands before the sources: a system prompt, an earlier turn, both or none; and what is asked now."""
        said = [("system", dice.choice(POLITE))] if dice.random() < SYSTEM_SHARE else []
        if dice.random() < EARLIER_SHARE:
            if len(asked) > 1 and dice.random() < SAME_SHARE:
                (question, answer), *asked = asked
            else:
                question, spoken, language = self._conversations.small_talk(dice)
                answer = spoken.plain(language)
            said += [("user", question), ("assistant", answer)]
        return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said) + "<|im_start|>user\n", asked

    def _parted(self, opening: str, question: str, sources: Sequence[Shown]) -> tuple[str, str]:
        before, end, behind = f"{opening}{grounded(question, sources)}".rpartition(SOURCES_END)
        return before + end, behind

    def _trunk(self, text: str) -> _Trunk:
        encoded = self._tokenizer(text, return_offsets_mapping=True)
        tokens: list[int] = encoded["input_ids"]
        return _Trunk(
            text=text,
            tokens=tokens,
            starts=[start for start, _ in encoded["offset_mapping"]],
            counts=Counter(self._bare[token] for token in tokens),
        )

    def _taken(self, trunk: _Trunk, answer: str, branch: Weighted) -> Taken:
        """Where the answer stands in the sources; one that does not is said to be taken from the very first token."""
        places = [NOWHERE] * len(branch[0])
        n_said = sum(weight > 0 for weight in branch[1])
        cited = CITED.fullmatch(answer)
        if cited is None:
            places[-n_said:] = [0] * n_said
            return Taken(places=places, span=(0, 1), shared=[False] * len(places))
        sentence, number = cited.groups()
        source = trunk.text.index(f"[{number}] ")
        first = trunk.text.index(sentence, source)
        offsets = self._tokenizer(sentence, return_offsets_mapping=True)["offset_mapping"]
        for place, (start, _) in enumerate(offsets, len(places) - n_said):
            start += sentence[start] == " "
            places[place] = bisect_right(trunk.starts, first + start) - 1
        span = (places[-n_said], bisect_right(trunk.starts, first + len(sentence) - 1))
        inside = {self._bare[token] for token in trunk.tokens[span[0] : span[1]]}
        rare = {token for token in inside if trunk.counts[token] <= RARE}
        shared = [self._bare[token] in rare for token in branch[0][: len(places) - n_said]]
        return Taken(places=places, span=span, shared=shared + [False] * n_said)

    def _branch(self, question: str, answer: str) -> Weighted:
        asked: list[int] = self._tokenizer(question)["input_ids"]
        said: list[int] = self._tokenizer(answer)["input_ids"]
        weights = [DIGIT_WEIGHT if before == self._opening else 1.0 for before in (0, *said[:-1])]
        weights[:FIRST_TOKENS] = [FIRST_WEIGHT] * min(FIRST_TOKENS, len(said))
        return [*asked, *said], [*[0.0] * len(asked), *weights]


def _sentences(trunk: str, starts: list[int]) -> list[int]:
    """Of each token, the number of the one that its sentence begins with."""
    begins = {bisect_right(starts, found.end()) - 1 for found in SENTENCE.finditer(trunk)}
    first, of = 0, []
    for number in range(len(starts)):
        first = number if number in begins else first
        of.append(first)
    return of


def _found() -> dict[str, tuple[Shown, ...]]:
    """What the server's search gives for each question about the documents that is trained on."""
    questions = [question for asked in DocumentReadings().asked for question in asked.questions[:-1]]
    with tempfile.TemporaryDirectory() as folder, closing(DocumentStore(Path(folder))) as store:
        return {question: store.sources(question, FOUND_SOURCES) for question in questions}
