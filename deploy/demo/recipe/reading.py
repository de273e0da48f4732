"""Questions with numbered sources, in the form in which the server asks them; the answer is a sentence of a source."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from server.grounding import Shown, grounded

from .facts import Fact, Facts
from .styles import Answer, Language

NOT_SAID = Answer(en="The sources do not say.", pt="As fontes não dizem.")
MOST_SOURCES, MOST_FACTS = 4, 6
MOST_MISSING = 4  # questions of a lesson that no source answers


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One question over sources. `answer` ends with the marker, or is NOT_SAID."""

    question: str
    sources: tuple[Shown, ...]
    answer: str
    language: Language
    value: str = ""  # what the question asks for, where it is a part of the answer

    @property
    def prompt(self) -> str:
        return grounded(self.question, self.sources)


def marked(sentence: str, number: int) -> str:
    """`The library opens at nine. [2]`"""
    return f"{sentence} [{number}]"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question about a lesson's sources, and the fact that answers it."""

    fact: Fact
    number: int | None  # of the source that says it; None where none does
    language: Language

    @property
    def answer(self) -> str:
        return NOT_SAID.plain(self.language) if self.number is None else marked(self.fact.sentence, self.number)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Sources and several questions about them."""

    sources: tuple[Shown, ...]
    asked: tuple[Asked, ...]
    language: Language


class FactReadings:
    """Readings over invented facts; with `held_out`, about names that no training row has."""

    def __init__(self, *, held_out: bool = False) -> None:
        self._facts = Facts(held_out=held_out)

    def draw(
        self, dice: random.Random, *, n_sources: int | None = None, most_facts: int = MOST_FACTS, answered: bool = True
    ) -> Reading:
        """One question; one to four sources of one to `most_facts` facts."""
        n_sources = n_sources or dice.randint(1, MOST_SOURCES)
        lesson = self.lesson(dice, n_sources, most_facts, n_asked=1, unanswered_share=0.0 if answered else 1.0)
        (asked,) = lesson.asked
        return Reading(
            question=asked.fact.question,
            sources=lesson.sources,
            answer=asked.answer,
            language=lesson.language,
            value=asked.fact.value if answered else "",
        )

    def lesson(
        self, dice: random.Random, n_sources: int, most_facts: int, *, n_asked: int, unanswered_share: float
    ) -> Lesson:
        """At most `n_asked` questions, about facts that are much like each other; some of what no source says."""
        language: Language = "en" if dice.random() < 0.6 else "pt"
        sizes = [dice.randint(1, most_facts) for _ in range(n_sources)]
        told = self._alike(dice, language, sum(sizes) + MOST_MISSING)
        missing = [told.pop(dice.randrange(len(told))) for _ in range(MOST_MISSING)]
        if dice.random() < 0.5:  # a document is more often about one thing than about several
            told.sort(key=lambda fact: fact.about[2])
        parts = _parted(told, sizes)
        sources = tuple(self.shown(dice, language, [fact.sentence for fact in part]) for part in parts)
        numbered = [(fact, number) for number, part in enumerate(parts, 1) for fact in part]
        asked = []
        for fact, number in dice.sample(numbered, min(n_asked, len(numbered))):
            if missing and dice.random() < unanswered_share:
                asked.append(Asked(fact=missing.pop(), number=None, language=language))
            else:
                asked.append(Asked(fact=fact, number=number, language=language))
        return Lesson(sources=sources, asked=tuple(asked), language=language)

    def shown(self, dice: random.Random, language: Language, sentences: Sequence[str]) -> Shown:
        """A source with these sentences, laid out as documents are."""
        title = self._facts.names.draw("title", dice).said(language)
        page = dice.randrange(1, 40) if title.endswith((".pdf", ".docx")) and dice.random() < 0.7 else None
        return Shown(title=title, text=self._laid_out(dice, language, sentences), page=page)

    def _alike(self, dice: random.Random, language: Language, n: int) -> list[Fact]:
        """`n` facts, many of them much like another, none of which answers another's question."""
        relation, subject, noun, fact = self._facts.draw(dice, language)
        found = [fact]
        known = {fact.about}
        ordinary = {fact.about[2]} if relation.unique else set()  # "list the keys" has one way in a document
        while len(found) < n:
            kind = dice.random()
            if kind < 0.3:
                fact = self._facts.same_relation(relation, noun, language, dice)
            elif kind < 0.6:
                fact = self._facts.same_subject(relation, subject, language, dice)
            else:
                relation, subject, noun, fact = self._facts.draw(dice, language)
            if fact.about in known or fact.about[2] in ordinary:
                continue
            known.add(fact.about)
            if self._facts.relations[fact.about[0]].unique:
                ordinary.add(fact.about[2])
            found.append(fact)
        return found

    def _laid_out(self, dice: random.Random, language: Language, sentences: Sequence[str]) -> str:
        kind = dice.random()
        if kind < 0.1:
            body = "\n".join(f"- {sentence}" for sentence in sentences)
        elif kind < 0.25:
            body = "\n".join(sentences)
        else:
            body = " ".join(sentences)
        if dice.random() < 0.4:
            heading = self._facts.names.draw("title", dice).said(language).rpartition(".")[0].replace("-", " ")
            return f"{'#' * dice.choice((1, 2, 2))} {heading.capitalize()}\n\n{body}"
        return body


def _parted(facts: Sequence[Fact], sizes: Sequence[int]) -> list[list[Fact]]:
    parts, start = [], 0
    for size in sizes:
        parts.append(list(facts[start : start + size]))
        start += size
    return parts
