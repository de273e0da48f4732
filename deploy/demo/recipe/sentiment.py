"""`sentimento`: whether a Portuguese text is positive, negative or neutral, in one word."""

from __future__ import annotations

from . import labelled
from .folder import TWEETS, TWEETS_TEST, DataFolder
from .held import Held
from .labelled import Example
from .lora import Plan

NAME, STEPS = "sentimento", 700
LABELS = {"positive": "positivo", "negative": "negativo", "neutral": "neutro"}
INSTRUCTION = "Responda com uma palavra, positivo, negativo ou neutro: qual é o sentimento deste texto?"
MOST_TOKENS = 8  # the longest label has four


def plan(data: DataFolder) -> Plan:
    """AfriSenti's tweets as they are: its train and dev parts."""
    return labelled.plan(NAME, _taught(data), INSTRUCTION, steps=STEPS)


def held(data: DataFolder) -> Held:
    """Its test part."""
    kept = _examples(data, TWEETS_TEST)
    return labelled.held(
        kept, _taught(data), INSTRUCTION, score="macro-F1", rate=labelled.macro_f1, most_tokens=MOST_TOKENS
    )


def _taught(data: DataFolder) -> list[Example]:
    return labelled.apart([one for name in TWEETS for one in _examples(data, name)], _examples(data, TWEETS_TEST))


def _examples(data: DataFolder, name: str) -> list[Example]:
    return [Example(text=row["tweet"].strip(), label=LABELS[row["label"]]) for row in data.table(name)]
