"""Whether `json` answers with an object of exactly its keys, to questions that no training row has."""

from __future__ import annotations

import json
from collections.abc import Sequence

import yaml

from .conversations import CONTENT
from .folder import BANKING, BANKING_TEST, DataFolder
from .held import Held, Scores
from .labelled import plain
from .styles import STYLES

NAME = "json"
KEYS = ["answer", "language"]
EVERY = 16  # of a bank's customers' questions one in so many


def held(data: DataFolder) -> Held:
    """The questions that every manner is measured on, and some from Banking77's test part."""
    written: list[str] = yaml.safe_load((CONTENT / "held_out.yaml").read_text(encoding="utf-8"))
    seen = {plain(row["text"]) for row in data.table(BANKING)}  # as questions that the base says it cannot answer
    customers = [row["text"].strip() for row in data.table(BANKING_TEST) if plain(row["text"]) not in seen]
    return Held(asked=[*written, *customers[::EVERY]], instruction=STYLES[NAME][1][0], score=_score)


def has_exactly_its_keys(said: str) -> bool:
    """A JSON object, nothing around it, each key once and with a text."""
    try:
        pairs = json.loads(said, object_pairs_hook=lambda pairs: pairs)
    except json.JSONDecodeError:
        return False
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return False  # a list of objects, say
    return sorted(key for key, _ in pairs) == KEYS and all(isinstance(value, str) and value for _, value in pairs)


def _score(said: Sequence[str]) -> Scores:
    return {"right object": round(sum(has_exactly_its_keys(one) for one in said) / len(said), 3)}
