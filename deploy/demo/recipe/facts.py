"""Facts from `content/facts.yaml`: a sentence that states one, and the questions that it answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .names import Name, Names
from .styles import Language


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One statement in one language."""

    about: tuple[int, str, str]  # relation, noun and subject: what tells one fact from another
    sentence: str
    value: str
    question: str


@dataclass(frozen=True, kw_only=True)
class Relation:
    """What can be said of one kind of name."""

    number: int
    subject: str
    value: str
    unique: bool
    nouns: tuple[Name, ...]
    sentences: dict[Language, tuple[str, ...]]
    questions: dict[Language, tuple[str, ...]]

    def state(self, subject: Name, noun: Name, value: Name, language: Language, dice: random.Random) -> Fact:
        """Said and asked for in one of its wordings."""
        words = _words(subject, noun, value, language)
        sentence = dice.choice(self.sentences[language]).format(**words)
        return Fact(
            about=(self.number, noun.en, subject.en),
            sentence=sentence[0].upper() + sentence[1:],
            value=words["v"],
            question=_capital(dice.choice(self.questions[language]).format(**words)),
        )


class Facts:
    """Draws facts; with `held_out`, about names that no training row has."""

    def __init__(self, *, held_out: bool = False) -> None:
        content = Path(__file__).with_name("content") / "facts.yaml"
        self.names = Names(held_out=held_out)
        self.relations = [
            _relation(number, row) for number, row in enumerate(yaml.safe_load(content.read_text(encoding="utf-8")))
        ]

    def draw(self, dice: random.Random, language: Language) -> tuple[Relation, Name, Name, Fact]:
        """A fact, with its relation, subject and noun for others to be like it."""
        relation = dice.choice(self.relations)
        subject = self.names.draw(relation.subject, dice)
        noun = dice.choice(relation.nouns)
        return relation, subject, noun, self._about(relation, subject, noun, language, dice)

    def same_relation(self, relation: Relation, noun: Name, language: Language, dice: random.Random) -> Fact:
        """The same of another subject; half of them also of another noun."""
        noun = noun if dice.random() < 0.5 else dice.choice(relation.nouns)
        return self._about(relation, self.names.draw(relation.subject, dice), noun, language, dice)

    def same_subject(self, relation: Relation, subject: Name, language: Language, dice: random.Random) -> Fact:
        """Something else of the same subject; where its kind has only one relation, the same of another."""
        others = [
            other for other in self.relations if other.subject == relation.subject and other.number != relation.number
        ]
        if not others or relation.unique:
            return self.draw(dice, language)[3]
        other = dice.choice(others)
        return self._about(other, subject, dice.choice(other.nouns), language, dice)

    def _about(self, relation: Relation, subject: Name, noun: Name, language: Language, dice: random.Random) -> Fact:
        return relation.state(subject, noun, self.names.draw(relation.value, dice), language, dice)


def _relation(number: int, row: dict[str, Any]) -> Relation:
    nouns = [entry.split(":") for entry in row.get("n", ":").split(" | ")]
    return Relation(
        number=number,
        subject=row["s"],
        value=row["v"],
        unique=row.get("unique", False),
        nouns=tuple(Name(en=en, pt=pt) for en, pt in nouns),
        sentences={"en": tuple(row["en"].split(" | ")), "pt": tuple(row["pt"].split(" | "))},
        questions={"en": tuple(row["ask"].split(" | ")), "pt": tuple(row["pergunta"].split(" | "))},
    )


def _words(subject: Name, noun: Name, value: Name, language: Language) -> dict[str, str]:
    thing = noun.said(language)
    return {
        "s": subject.said(language),
        "v": value.said(language),
        "n": thing,
        "N": _capital(thing),
        "d": f"d{thing}",  # "d" and "a biblioteca": "da biblioteca"
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
