"""`sentimento`: whether a Portuguese text is positive, negative or neutral, in one word."""

from __future__ import annotations

from collections.abc import Sequence

from .folder import TWEETS, TWEETS_TEST, DataFolder
from .held import Held, Scores
from .labelled import CONVERSATIONS, Example, Labelling, apart, macro_f1, most_frequent
from .lora import Plan

NAME, STEPS = "sentimento", 700
LABELS = {"positive": "positivo", "negative": "negativo", "neutral": "neutro"}
INSTRUCTION = "Responda com uma palavra, positivo, negativo ou neutro: qual é o sentimento deste texto?"
MOST_TOKENS = 8  # the longest label has four


def plan(data: DataFolder) -> Plan:
    """AfriSenti's tweets as they are: its train and dev parts."""
    return Plan(name=NAME, draw=Labelling(_taught(data), INSTRUCTION).draw, steps=STEPS, conversations=CONVERSATIONS)


def held(data: DataFolder) -> Held:
    """Its test part."""
    kept = _examples(data, TWEETS_TEST)

    def score(said: Sequence[str]) -> Scores:
        return {"macro-F1": macro_f1(kept, said)}

    always = [most_frequent(_taught(data))] * len(kept)
    asked = [example.text for example in kept]
    return Held(asked=asked, instruction=INSTRUCTION, score=score, most_tokens=MOST_TOKENS, no_model=score(always))


def _taught(data: DataFolder) -> list[Example]:
    return apart([one for name in TWEETS for one in _examples(data, name)], _examples(data, TWEETS_TEST))


def _examples(data: DataFolder, name: str) -> list[Example]:
    return [Example(text=row["tweet"].strip(), label=LABELS[row["label"]]) for row in data.table(name)]
