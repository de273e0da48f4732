"""Readings over the demo documents: every sentence of theirs, in several ways to ask for it."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from server.grounding import Shown

from .reading import MOST_SOURCES, NOT_SAID, Reading, marked
from .styles import Language

FOLDER = Path(__file__).resolve().parents[1] / "documents"
COMPANY = "brisa"  # its papers say the same in both languages
QUESTIONS = Path(__file__).with_name("content") / "documents.yaml"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a document under one heading."""

    filename: str
    title: str  # the line that the document opens with
    heading: str
    sentences: tuple[str, ...]

    @property
    def language(self) -> Language:
        return "pt" if self.filename.endswith(".pt.md") else "en"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A sentence of a document and the ways to ask for it; the last way is kept from training."""

    section: Section
    sentence: str
    questions: tuple[str, ...]


class DocumentReadings:
    """Draws readings; right and wrong sources are parts of the same documents."""

    def __init__(self, found: Mapping[str, tuple[Shown, ...]] | None = None) -> None:
        """`found`: what a search gives for questions; half of the readings about one of them have just that."""
        self._found = found or {}
        self.sections = [section for path in sorted(FOLDER.iterdir()) for section in _sections(path)]
        self.asked = _asked(self.sections)

    def draw(self, dice: random.Random, *, answered: bool = True) -> Reading:
        """A question in a wording for training, one to four sources."""
        asked = dice.choice(self.asked)
        question = dice.choice(asked.questions[:-1])
        sources = self._found.get(question, ())
        if answered and dice.random() < 0.5 and holding(asked.sentence, sources):
            return _reading(question, asked, sources)
        n_sources = dice.choice((1, 2, 3, 3, 3, MOST_SOURCES))
        others = self.others(question, asked, dice, n_sources - 1 if answered else n_sources)
        parts = [(section, dice.choice(section.sentences)) for section in others]
        if answered:
            parts.append((asked.section, asked.sentence))
        dice.shuffle(parts)
        return _reading(question, asked, tuple(_part(section, sentence, dice) for section, sentence in parts))

    def about(self, sources: Sequence[Shown], dice: random.Random, most: int) -> list[Reading]:
        """Questions in wordings for training that these sources answer."""
        answered = [asked for asked in self.asked if holding(asked.sentence, sources)]
        chosen = dice.sample(answered, min(most, len(answered)))
        return [_reading(dice.choice(asked.questions[:-1]), asked, tuple(sources)) for asked in chosen]

    def missing(self, sources: Sequence[Shown], dice: random.Random) -> Reading:
        """A question that they do not answer: it is about a section of which they have nothing."""
        text = "\n".join(source.text for source in sources)
        companies = {source.title.endswith(".pt.md") for source in sources if source.title.startswith(COMPANY)}
        while True:
            asked = dice.choice(self.asked)
            section = asked.section
            told = section.filename.startswith(COMPANY) and companies - {section.language == "pt"}
            if not told and not any(sentence in text for sentence in section.sentences):
                return _reading(dice.choice(asked.questions[:-1]), asked, tuple(sources))

    def others(self, question: str, asked: Asked, dice: random.Random, n: int) -> list[Section]:
        """Sections that do not answer, those that share words with the question more often."""
        words = _words(question)
        company = asked.section.filename.startswith(COMPANY)
        wrong = [
            section
            for section in self.sections
            if section is not asked.section
            and not (company and section.filename.startswith(COMPANY) and section.language != asked.section.language)
        ]
        wrong.sort(key=lambda section: -len(words & _words(" ".join(section.sentences))) + 2 * dice.random())
        return [wrong.pop(dice.randrange(5) if dice.random() < 0.6 else dice.randrange(len(wrong))) for _ in range(n)]


def holding(sentence: str, sources: Sequence[Shown]) -> list[int]:
    """Numbers of the sources that have the sentence."""
    return [number for number, source in enumerate(sources, 1) if sentence in source.text]


def _reading(question: str, asked: Asked, sources: tuple[Shown, ...]) -> Reading:
    numbers, language = holding(asked.sentence, sources), asked.section.language
    answer = marked(asked.sentence, numbers[0]) if numbers else NOT_SAID.plain(language)
    return Reading(question=question, sources=sources, answer=answer, language=language)


def _sections(path: Path) -> list[Section]:
    title, *parts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for part in parts:
        heading, _, body = part.partition("\n")
        sentences = tuple(re.split(r"(?<=[.])\s+", body.strip()))
        found.append(Section(filename=path.name, title=title.strip(), heading=heading.strip(), sentences=sentences))
    return found


def _asked(sections: list[Section]) -> list[Asked]:
    of = {(section.filename, sentence): section for section in sections for sentence in section.sentences}
    rows: dict[str, list[dict[str, Any]]] = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
    return [
        Asked(section=of[filename, row["a"]], sentence=row["a"], questions=(*row["q"].split(" | "), row["held_out"]))
        for filename, entries in rows.items()
        for row in entries
    ]


def _part(section: Section, sentence: str, dice: random.Random) -> Shown:
    """The section, or a piece of it around the sentence, as the store's splitter may cut it."""
    sentences = list(section.sentences)
    place = sentences.index(sentence)
    if dice.random() < 0.4:
        start, end = dice.randint(0, place), dice.randint(place + 1, len(sentences))
        sentences = sentences[start:end]
    body = " ".join(sentences)
    kind = dice.random()
    if kind < 0.6:
        body = f"## {section.heading}\n\n{body}"
    if kind < 0.3:
        body = f"{section.title}\n\n{body}"
    return Shown(title=section.filename, text=body)


def _words(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"\w{4,}", text.lower())}
