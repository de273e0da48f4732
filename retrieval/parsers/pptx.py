"""Slides, by markitdown (python-pptx)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.parsers.converted import converted
from retrieval.passage import Document

_SLIDE = re.compile(r"^<!-- Slide number: (\d+) -->$", re.MULTILINE)  # what the converter writes before each


def read(content: Content) -> Document:
    """Markdown with titles as headings; each slide is a page."""
    from markitdown.converters import PptxConverter

    return assemble("pptx", _slides(converted(PptxConverter, content.path)), markdown=True)


def _slides(markdown: str) -> Iterator[tuple[int, str]]:
    number, start = 0, 0
    for mark in _SLIDE.finditer(markdown):
        if int(mark[1]) != number + 1:  # a slide may hold the same words itself
            continue
        if number:
            yield number, markdown[start : mark.start()]
        number, start = number + 1, mark.end()
    if number:
        yield number, markdown[start:]
