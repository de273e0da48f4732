"""Plain text and source code: taken as they are."""

from __future__ import annotations

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.passage import Document


def read(content: Content) -> Document:
    """The text, cleaned."""
    return assemble(content.kind, [content.text])
