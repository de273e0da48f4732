"""Fenced blocks of a Markdown file, and why those that are not run are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("sh", "python")  # what a reader pastes; other blocks are shown, not run

_FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; `section` is the second-level heading that it stands under."""

    language: str
    text: str
    reason: str | None  # why no test runs it
    section: str
    line: int


def blocks(path: Path) -> Iterator[Block]:
    """Every fenced block of the file, in its order."""
    text = path.read_text()
    for match in _FENCE.finditer(text):
        before = text[: match.start("language")]
        headings = re.findall(r"^## (.+)$", before, re.MULTILINE)
        yield Block(
            language=match["language"],
            text=match["text"],
            reason=match["reason"],
            section=headings[-1] if headings else "",
            line=before.count("\n") + 1,
        )


def commands(path: Path) -> list[Block]:
    """The blocks that a reader pastes."""
    return [block for block in blocks(path) if block.language in COMMANDS]
