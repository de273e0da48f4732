"""The form in which sources stand in a prompt: a fixed header, numbered and fenced passages, then the question.

Sources come before the user's own words and in the order of files and places, so that the same sources under another
question stay in the engine's prefix cache. The demo's training imports this file, so it knows nothing of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEADER = (
    "Answer from these sources. Behind what you take from one, put its number, as in [1]. "
    "If they do not have the answer, say so."
)
NONE_FOUND = "No source was found for this question. Say so."
NONE_SHOWN = "Sources were found for this question, but none can be shown here. Say so."
SEARCH_FAILED = "The search for sources failed, so there are none. Say so."
FENCE = '"""'


@dataclass(frozen=True, slots=True)
class Shown:
    """A source as the model reads it: its text must have been made harmless before."""

    title: str  # the file's name
    text: str
    page: int | None = None


def source_block(number: int, source: Shown) -> str:
    """`[1] handbook.pdf, page 3`, and the fenced passage under it."""
    place = source.title if source.page is None else f"{source.title}, page {source.page}"
    return f"[{number}] {place}\n{FENCE}\n{source.text}\n{FENCE}"


def grounded(question: str, sources: Sequence[Shown]) -> str:
    """The text of the user's turn: header, sources, and the user's own words last and unchanged."""
    if not sources:
        return f"{NONE_FOUND}\n\n{question}"
    blocks = [source_block(number, source) for number, source in enumerate(sources, 1)]
    return "\n\n".join([HEADER, *blocks, question])


def unshown(question: str) -> str:
    """The user's turn where sources were found, and none of them can stand in the prompt."""
    return f"{NONE_SHOWN}\n\n{question}"


def unsearched(question: str) -> str:
    """The user's turn after a search that failed, where the answer goes on without it."""
    return f"{SEARCH_FAILED}\n\n{question}"
