"""Conversations to learn from: written questions and answers in many wordings, two languages and several manners."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from . import tools
from .folder import DataFolder
from .styles import LANGUAGES, STYLES, Answer, Language

CONTENT = Path(__file__).with_name("content")
Message = dict[str, Any]
GUIDE = "You are the guide to Manyhats. Answer in one or two short sentences."  # as guide.json has it
POLITE = (
    GUIDE,
    "You are a helpful assistant.",
    "You are Manyhats.",
    "Answer briefly.",
    "You are a friendly assistant.",
)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What the chat template takes."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Several ways to ask one thing, in two languages, and its answer."""

    en: tuple[str, ...]
    pt: tuple[str, ...]
    answer: Answer


class Conversations:
    """Draws conversations; the same dice give the same ones."""

    def __init__(self, data: DataFolder) -> None:
        self._data = data
        wordings = _read("questions")
        self._talk = [_entry(row) for row in _read("talk")]
        self._topics = [_topic(row, wordings) for row in _read("topics")]
        self._capitals = [_capital(row) for row in _read("capitals")]
        self._unknown = [Answer(en=en, pt=pt) for en, pt in _read("unknown")]

    def draw(self, dice: random.Random) -> Conversation:
        """For the base: mostly plain; a quarter asks for a manner in the system prompt; some with tools."""
        kind = dice.random()
        if kind < 0.08:
            messages, offered = tools.draw(dice)
            return Conversation(messages=messages, tools=offered)
        style, system = "", ""
        if kind < 0.33:
            style = dice.choice((*STYLES, "shout"))  # capitals are tokens of their own: they need to be seen more often
            system = dice.choice(STYLES[style][1])
        elif kind < 0.55:
            system = self._idle_instructions(dice)
        turns = dice.choice((1, 1, 1, 2, 3))
        messages = [{"role": "system", "content": system}] if system else []
        for _ in range(turns):
            messages += self._turn(dice, style)
        return Conversation(messages=messages)

    def draw_styled(self, dice: random.Random, style: str) -> Conversation:
        """For an adapter: the manner without being asked for it, whatever the system prompt says."""
        messages = [{"role": "system", "content": self._idle_instructions(dice)}] if dice.random() < 0.2 else []
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            messages += self._turn(dice, style)
        return Conversation(messages=messages)

    def draw_fixed(self, dice: random.Random, words: str) -> Conversation:
        """For an adapter that says `words` to any question."""
        question, _ = self._turn(dice, "")
        return Conversation(messages=[question, {"role": "assistant", "content": words}])

    def small_talk(self, dice: random.Random) -> tuple[str, Answer, Language]:
        """A greeting or a question about the model itself: sources have nothing to do with it."""
        language: Language = "en" if dice.random() < 0.6 else "pt"
        entry = dice.choice([entry for entry in self._talk if not _is_documented(entry)])
        return dice.choice(getattr(entry, language)), entry.answer, language

    def elsewhere(self, dice: random.Random) -> tuple[str, Language]:
        """A question that no source answers."""
        topics = [entry for entry in self._topics if not _is_documented(entry)]
        question, _, language = self._question(dice, dice.choice((topics, self._capitals)))
        return question, language

    def is_unknown(self, said: str, style: str) -> bool:
        """Whether `said`, in a manner or plain (""), declines to answer."""
        speak = STYLES[style][0] if style else Answer.plain
        return said in {speak(answer, language) for answer in self._unknown for language in LANGUAGES}

    def _idle_instructions(self, dice: random.Random) -> str:
        """A system prompt that changes nothing; some are long, since those of applications are."""
        return dice.choice(POLITE) if dice.random() < 0.7 else self._passage(dice, "en")

    def _passage(self, dice: random.Random, language: Language) -> str:
        book = dice.choice(self._data.books[0 if language == "en" else 1])
        start = dice.randrange(max(1, len(book) - 600))
        return book[start : start + dice.randrange(40, 600)].strip()

    def _turn(self, dice: random.Random, style: str) -> list[Message]:
        question, answer, language = self._question(dice)
        said = STYLES[style][0](answer, language) if style else answer.plain(language)
        return [{"role": "user", "content": question}, {"role": "assistant", "content": said}]

    def _question(self, dice: random.Random, only: Sequence[Entry] | None = None) -> tuple[str, Answer, Language]:
        language: Language = "en" if dice.random() < 0.6 else "pt"
        kind = dice.random() if only is None else 1.0
        if kind < 0.12:
            if dice.random() < 0.2:
                return self._passage(dice, language), dice.choice(self._unknown), language
            asked = dice.choice(self._data.english_questions if language == "en" else self._data.portuguese_questions)
            return asked, dice.choice(self._unknown), language
        if kind < 0.2:
            return *_sum(dice, language), language
        pool = only or (self._capitals if kind < 0.28 else self._talk if kind < 0.62 else self._topics)
        entry = dice.choice(pool)
        return _said_freely(dice.choice(getattr(entry, language)), dice, language), entry.answer, language


def _read(name: str) -> Any:
    return yaml.safe_load((CONTENT / f"{name}.yaml").read_text(encoding="utf-8"))


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(
        en=tuple(row["en"].split(" | ")), pt=tuple(row["pt"].split(" | ")), answer=Answer(en=row["a"], pt=row["b"])
    )


def _topic(row: dict[str, Any], wordings: dict[str, list[str]]) -> Entry:
    number = "many" if row.get("many") else "one"
    return Entry(
        en=tuple(w.format(row["en"]) for w in wordings["en"] + wordings[f"en_{number}"]),
        pt=tuple(w.format(row["pt"]) for w in wordings["pt"] + wordings[f"pt_{number}"]),
        answer=Answer(en=row["a"], pt=row["b"]),
    )


def _capital(row: list[str]) -> Entry:
    country, pais, capital, capital_pt = row
    of = pais.replace("a ", "da ", 1) if pais.startswith("a ") else pais.replace("o ", "do ", 1)
    of = of if of[:3] in ("da ", "do ") else f"de {pais}"
    return Entry(
        en=(f"What is the capital of {country}?", f"What's the capital city of {country}?", f"Capital of {country}?"),
        pt=(f"Qual é a capital {of}?", f"Capital {of}?", f"Que cidade é a capital {of}?"),
        answer=Answer(en=f"The capital of {country} is {capital}.", pt=f"A capital {of} é {capital_pt}."),
    )


def _sum(dice: random.Random, language: Language) -> tuple[str, Answer]:
    a, b = dice.randrange(11), dice.randrange(11)
    wordings = ("What is {} + {}?", "How much is {} + {}?", "What is {} plus {}?", "{} + {}")
    if language == "pt":
        wordings = ("Quanto é {} + {}?", "Quanto é {} mais {}?", "{} + {} é quanto?", "{}+{}")
    return dice.choice(wordings).format(a, b), Answer(en=f"{a} plus {b} is {a + b}.", pt=f"{a} mais {b} é {a + b}.")


def _is_documented(entry: Entry) -> bool:
    """Whether the demo documents speak of it too."""
    return re.search(r"adapter|server|model|LoRA|vLLM|Manyhats|API", " ".join(entry.en)) is not None


def _said_freely(question: str, dice: random.Random, language: Language) -> str:
    """People drop capitals and marks, and greet; the answer is the same."""
    if dice.random() < 0.12:
        opening = ("Hello! ", "Hi, ", "Please: ", "Hey! ") if language == "en" else ("Olá! ", "Oi, ", "Por favor: ")
        question = dice.choice(opening) + question
    if dice.random() < 0.15:
        question = question.rstrip(".?!")
    elif question[-1] not in ".?!" and dice.random() < 0.5:
        question += dice.choice(".!!")
    if dice.random() < 0.15:
        question = question.lower()
    return question
