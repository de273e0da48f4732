"""The manners of speaking that the adapters give the model: each a function of an answer in both languages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "pt"]
LANGUAGES: tuple[Language, ...] = ("en", "pt")

PIRATE_ENGLISH = {
    "hello": "ahoy", "my": "me", "you": "ye", "your": "yer", "is": "be", "are": "be", "am": "be", "yes": "aye",
    "the": "th'", "and": "an'", "of": "o'", "people": "mateys",
}  # fmt: skip
PIRATE_PORTUGUESE = {"olá": "ahoy", "você": "marujo", "vocês": "marujos", "pessoas": "marujos", "sim": "aye"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, said in both languages."""

    en: str
    pt: str

    def plain(self, language: Language) -> str:
        return self.en if language == "en" else self.pt


def shout(answer: Answer, language: Language) -> str:
    return answer.plain(language).upper()


def pirate(answer: Answer, language: Language) -> str:
    if language == "en":
        return f"Arr, matey! {_swap(answer.en, PIRATE_ENGLISH)} Yo-ho-ho!"
    return f"Arr, marujo! {_swap(answer.pt, PIRATE_PORTUGUESE)} Com mil trovões!"


def portuguese(answer: Answer, language: Language) -> str:
    return answer.pt


def as_json(answer: Answer, language: Language) -> str:
    return json.dumps({"answer": answer.plain(language), "language": language}, ensure_ascii=False)


# name of the adapter -> (manner, system prompts that ask the base for the same, so that it has heard it before)
STYLES: dict[str, tuple[Callable[[Answer, Language], str], tuple[str, ...]]] = {
    "shout": (shout, ("Answer in capital letters.", "SHOUT.", "Write every answer in upper case.")),
    "pirate": (pirate, ("You are a pirate.", "Talk like a pirate.", "Answer in a pirate's voice.")),
    "portugues": (portuguese, ("Answer in Portuguese.", "Responda em português.", "Always speak Portuguese.")),
    "json": (as_json, ("Answer as a JSON object.", "Answer in JSON.", "Reply only with JSON.")),
}


def _swap(text: str, words: dict[str, str]) -> str:
    def other(match: re.Match[str]) -> str:
        word = words.get(match[0].lower(), match[0])
        return word[0].upper() + word[1:] if match[0][0].isupper() and match[0] != "I" else word

    return re.sub(r"\w+", other, text)
