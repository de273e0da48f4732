"""Electronic books, by markitdown."""

from __future__ import annotations

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.parsers.converted import converted
from retrieval.passage import Document


def read(content: Content) -> Document:
    """Markdown of the chapters in reading order, after the book's title and authors."""
    from markitdown.converters import EpubConverter

    return assemble("epub", [converted(EpubConverter, content.path)], markdown=True)
