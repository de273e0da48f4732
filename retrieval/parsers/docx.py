"""Word documents, by markitdown (mammoth)."""

from __future__ import annotations

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.parsers.converted import converted
from retrieval.passage import Document


def read(content: Content) -> Document:
    """Markdown with headings, lists and tables. There are no pages: Word makes them when it shows the document."""
    from markitdown.converters import DocxConverter

    return assemble("docx", [converted(DocxConverter, content.path)], markdown=True)
