"""An assistant's few-shot turns in a request: the first to go where room is short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.engine.base import Dialect
from server.storage.assistant import Assistant
from server.turns import FIELD


def with_one_example_fewer(
    body: dict[str, Any], assistant: Assistant | None, dialect: Dialect
) -> dict[str, Any] | None:
    """The dressed body without its last example; None where it has none left. The client's turns stay as they are."""
    turns = body.get(FIELD[dialect])
    if assistant is None or not isinstance(turns, list):
        return None
    first = next((i for i, turn in enumerate(turns) if not _is(turn, "system", "developer")), len(turns))
    left = 0
    for example in assistant.examples:
        if not _stands(example, turns[first + 2 * left : first + 2 * left + 2], opened=left == 0):
            break
        left += 1
    if not left:
        return None
    place = first + 2 * (left - 1)
    opening = str(turns[place]["content"]).removesuffix(assistant.examples[left - 1]["user"])
    rest = turns[place + 2 :]
    if opening:  # a template without system role: the first user turn opens with the instructions
        rest = _opened(opening, rest)
    return {**body, FIELD[dialect]: [*turns[:place], *rest]}


def _stands(example: Mapping[str, str], turns: Sequence[Any], *, opened: bool) -> bool:
    if len(turns) < 2 or not _is(turns[0], "user") or not _is(turns[1], "assistant"):
        return False
    question, answer = turns[0].get("content"), turns[1].get("content")
    if not isinstance(question, str) or answer != example["assistant"]:
        return False
    return question == example["user"] or (opened and question.endswith(f"\n\n{example['user']}"))


def _opened(opening: str, turns: Sequence[Any]) -> list[Any]:
    for i, turn in enumerate(turns):
        if not _is(turn, "user"):
            continue
        content = turn.get("content")
        if isinstance(content, list):
            parts = [part.get("type") for part in content if isinstance(part, dict)]
            kind = "input_text" if "input_text" in parts else "text"
            changed: Any = [{"type": kind, "text": opening}, *content]
        else:
            changed = f"{opening}{content}"
        return [*turns[:i], {**turn, "content": changed}, *turns[i + 1 :]]
    return [{"role": "user", "content": opening.strip()}, *turns]


def _is(turn: Any, *roles: str) -> bool:
    return isinstance(turn, dict) and turn.get("role") in roles
