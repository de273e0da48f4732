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


class FactReadings:
    """Readings over invented facts; with `held_out`, about names that no training row has."""

    def __init__(self, *, held_out: bool = False) -> None:
        self._facts = Facts(held_out=held_out)

    def draw(
        self,
        dice: random.Random,
        *,
        ease: float = 0.0,
        n_sources: int | None = None,
        answered: bool = True,
    ) -> Reading:
        """One to four sources; `ease` 1 gives each one fact, 0 up to six."""
        language: Language = "en" if dice.random() < 0.6 else "pt"
        n_sources = n_sources or dice.randint(1, MOST_SOURCES)
        most = 1.0 + (1.0 - ease) * (MOST_FACTS - 1)
        sizes = [1 + int(dice.random() * most * 0.999) for _ in range(n_sources)]
        asked, around = self._asked(dice, language, sum(sizes))
        listed = [*around[: sum(sizes) - 1], asked if answered else around[-1]]
        dice.shuffle(listed)
        if dice.random() < 0.5:  # a document is more often about one thing than about several
            listed.sort(key=lambda fact: fact.about[2])
        parts = _parted(listed, sizes)
        sources = tuple(self.shown(dice, language, [fact.sentence for fact in part]) for part in parts)
        if not answered:
            return Reading(question=asked.question, sources=sources, answer=NOT_SAID.plain(language), language=language)
        number = next(number for number, part in enumerate(parts, 1) if asked in part)
        return Reading(
            question=asked.question,
            sources=sources,
            answer=marked(asked.sentence, number),
            language=language,
            value=asked.value,
        )

    def shown(self, dice: random.Random, language: Language, sentences: Sequence[str]) -> Shown:
        """A source with these sentences, laid out as documents are."""
        title = self._facts.names.draw("title", dice).said(language)
        page = dice.randrange(1, 40) if title.endswith((".pdf", ".docx")) and dice.random() < 0.7 else None
        return Shown(title=title, text=self._laid_out(dice, language, sentences), page=page)

    def _asked(self, dice: random.Random, language: Language, n: int) -> tuple[Fact, list[Fact]]:
        """A fact, and `n` others that do not answer its question, many of them much like it."""
        relation, subject, noun, asked = self._facts.draw(dice, language)
        known = {asked.about}
        ordinary = {asked.about[2]} if relation.unique else set()  # "list the keys" has one way in a document
        others: list[Fact] = []
        while len(others) < n:
            kind = dice.random()
            if kind < 0.3:
                other = self._facts.same_relation(relation, noun, language, dice)
            elif kind < 0.6:
                other = self._facts.same_subject(relation, subject, language, dice)
            else:
                other = self._facts.draw(dice, language)[3]
            if other.about in known or other.about[2] in ordinary:
                continue
            known.add(other.about)
            if self._facts.relations[other.about[0]].unique:
                ordinary.add(other.about[2])
            others.append(other)
        return asked, others

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
