"""From the parts that a parser found to one clean document, with the places where pages and headings begin."""

from __future__ import annotations

from collections.abc import Iterable

from retrieval.errors import ParseFailed
from retrieval.parsers.cleaning import clean
from retrieval.parsers.headings import headings_of
from retrieval.passage import Document

MAX_CHARACTERS = 50_000_000
BETWEEN = "\n\n"


def assemble(kind: str, parts: Iterable[str | tuple[int, str]], *, markdown: bool = False) -> Document:
    """A document of these parts, one after the other; a part with a number is a page.

    Raises ParseFailed where there is more text than `MAX_CHARACTERS`, or none: the caller may say why in its own words
    first. Parts are taken one by one, so that a file that unfolds without end is stopped on its way.
    """
    texts: list[str] = []
    pages: list[tuple[int, int]] = []
    length = 0
    for part in parts:
        number, raw = (None, part) if isinstance(part, str) else part
        if len(raw) > MAX_CHARACTERS:
            raise _too_long()
        text = clean(raw).strip("\n")
        if not text.strip():
            continue
        if texts:
            length += len(BETWEEN)
        if number is not None:
            pages.append((length, number))
        texts.append(text)
        length += len(text)
        if length > MAX_CHARACTERS:
            raise _too_long()
    if not texts:
        raise ParseFailed("invalid_file", "the file holds no text: upload one that does")
    text = BETWEEN.join(texts)
    return Document(text=text, kind=kind, pages=tuple(pages), headings=headings_of(text) if markdown else ())


def _too_long() -> ParseFailed:
    return ParseFailed(
        "invalid_file",
        f"the file holds more than {MAX_CHARACTERS:,} characters of text: split it and upload the parts",
    )
