"""What was said in a request, whatever its dialect: who said it, in which words, and where they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server.engine.base import Dialect

FIELD = {"chat": "messages", "messages": "messages", "responses": "input", "completions": "prompt"}
TEXT_PARTS = ("text", "input_text", "output_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn that has words."""

    role: str
    text: str  # text parts only, joined by newlines
    place: int | None  # in the body's list; None where the field is one text


def turns_of(body: dict[str, Any], dialect: Dialect) -> list[Turn]:
    """The turns with words of their own, in their order; calls and results of tools, and pictures, have none."""
    given = body.get(FIELD[dialect])
    if isinstance(given, str):
        return [Turn(role="user", text=given, place=None)] if given.strip() else []
    turns = []
    for place, turn in enumerate(given if isinstance(given, list) else []):
        role = turn.get("role") if isinstance(turn, dict) else None
        if isinstance(role, str) and (text := "\n".join(_texts(turn.get("content")))).strip():
            turns.append(Turn(role=role, text=text, place=place))
    return turns


def with_text(body: dict[str, Any], dialect: Dialect, turn: Turn, write: Callable[[str], str]) -> dict[str, Any]:
    """The body with what `write` makes of this turn's first words; everything else is the same, nothing is changed in
    place."""
    field = FIELD[dialect]
    given = body[field]
    if turn.place is None:
        return {**body, field: write(given)}
    message = given[turn.place]
    changed = {**message, "content": _rewritten(message["content"], write)}
    return {**body, field: [*given[: turn.place], changed, *given[turn.place + 1 :]]}


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content if _has_words(part)] if isinstance(content, list) else []


def _has_words(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS:
        return False
    return isinstance(part.get("text"), str) and bool(part["text"].strip())


def _rewritten(content: Any, write: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return write(content)
    first = next(i for i, part in enumerate(content) if _has_words(part))
    return [*content[:first], {**content[first], "text": write(content[first]["text"])}, *content[first + 1 :]]
