"""`banking`: what a bank's customer wants, as one of thirteen intents."""

from __future__ import annotations

from . import labelled
from .folder import BANKING, BANKING_TEST, DataFolder
from .held import Held
from .labelled import Example
from .lora import Plan

NAME, STEPS = "banking", 500
MOST_LETTERS = 14  # of an intent's name: the model has to write it, so the ones with short names are the subset
INSTRUCTION = "Answer with the name of the customer's intent, such as card_arrival or change_pin."
MOST_TOKENS = 12


def plan(data: DataFolder) -> Plan:
    """Banking77's train part, of the intents with short names."""
    return labelled.plan(NAME, _taught(data), INSTRUCTION, steps=STEPS)


def held(data: DataFolder) -> Held:
    """Its test part, of the same intents."""
    kept = _examples(data, BANKING_TEST)
    return labelled.held(
        kept, _taught(data), INSTRUCTION, score="accuracy", rate=labelled.accuracy, most_tokens=MOST_TOKENS
    )


def _taught(data: DataFolder) -> list[Example]:
    return labelled.apart(_examples(data, BANKING), _examples(data, BANKING_TEST))


def _examples(data: DataFolder, name: str) -> list[Example]:
    return [
        Example(text=row["text"].strip(), label=row["category"])
        for row in data.table(name)
        if len(row["category"]) <= MOST_LETTERS
    ]
