"""Where the sections of a Markdown text begin, and under which headings they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_HEADING = 200  # characters kept of one heading: it is shown beside every passage of its section

_HASHES = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_CLOSING_HASHES = re.compile(r"(?:^|[ \t])#+[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_NOT_A_PARAGRAPH = re.compile(r"[ \t]*(?:$|[#>|]|[-*+][ \t]|\d+[.)][ \t])| {4}|\t")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")

Heading = tuple[int, int, str]  # first character of its line, level from 1, its words


def headings_of(text: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(first character, path of headings from the outermost) of each section, ascending."""
    found = []
    open_sections: list[tuple[int, str]] = []
    for start, level, words in _headings(text):
        while open_sections and open_sections[-1][0] >= level:
            open_sections.pop()
        open_sections.append((level, words))
        found.append((start, tuple(title for _, title in open_sections)))
    return tuple(found)


def _headings(text: str) -> Iterator[Heading]:
    fence = ""
    before_last, last, last_start = "", "", 0  # the two lines above this one
    start = 0
    for line in text.split("\n"):
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif not fence and (heading := _hashed(start, line) or _underlined(last_start, last, before_last, line)):
            yield heading
        before_last, last, last_start = last, line, start
        start += len(line) + 1


def _hashed(start: int, line: str) -> Heading | None:
    if not line.lstrip(" ").startswith("#"):  # nearly every line, at the least cost
        return None
    match = _HASHES.match(line)
    if match is None:
        return None
    words = _plain(_CLOSING_HASHES.sub("", match[2] or ""))
    return (start, len(match[1]), words) if words else None


def _underlined(start: int, title: str, above: str, line: str) -> Heading | None:
    """A one-line paragraph with a row of `=` or `-` below it."""
    match = _UNDERLINE.match(line)
    if match is None or above.strip() or _NOT_A_PARAGRAPH.match(title):
        return None
    words = _plain(title)
    return (start, 1 if match[1][0] == "=" else 2, words) if words else None


def _plain(heading: str) -> str:
    words = _MARKS.sub("", _LINK.sub(r"\1", heading[: 4 * MAX_HEADING]))
    return " ".join(words.split())[:MAX_HEADING]
