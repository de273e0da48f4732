"""Web pages, by markitdown (Beautiful Soup and markdownify)."""

from __future__ import annotations

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.parsers.converted import OPTIONS, without_pictures
from retrieval.passage import Document


def read(content: Content) -> Document:
    """Markdown of the page's body, without scripts and styles, after its title where the body does not say it."""
    from markitdown.converters import HtmlConverter

    # It reads bytes: lone surrogates, which UTF-8 has no bytes for, become question marks.
    result = HtmlConverter().convert_string(content.text.encode(errors="replace").decode(), **OPTIONS)
    body = without_pictures(result.markdown)
    title = " ".join((result.title or "").split())
    parts = [body] if not title or title in body else [f"# {title}", body]
    return assemble("html", parts, markdown=True)
