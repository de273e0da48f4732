"""Markdown: taken as it is, with its headings."""

from __future__ import annotations

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.passage import Document


def read(content: Content) -> Document:
    """The text, cleaned, marks and all: they tell the splitter where sections, lists and tables are."""
    return assemble("markdown", [content.text], markdown=True)
