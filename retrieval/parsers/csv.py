"""Comma-separated values, and their relatives with semicolons, tabs and bars."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from itertools import islice

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.parsers.rows import rows_as_text
from retrieval.passage import Document

DELIMITERS = ",;\t|"
SAMPLE_ROWS = 50


def read(content: Content) -> Document:
    """A block of lines per row."""
    return assemble("csv", rows_as_text(_rows(content.text.lstrip("\ufeff"))))


def _rows(text: str) -> Iterator[Sequence[str]]:
    csv.field_size_limit(sys.maxsize)  # the default refuses cells above 131,072 characters
    return csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))


def _delimiter(text: str) -> str:
    """The one by which the first rows fall into the same number of cells, and into most."""

    def evenness(delimiter: str) -> tuple[float, int]:
        rows = islice(csv.reader(io.StringIO(text[:100_000], newline=""), delimiter=delimiter), SAMPLE_ROWS)
        widths = [len(row) for row in rows if row]
        if not widths or max(widths) < 2:
            return 0.0, 0
        usual = max(set(widths), key=lambda width: (widths.count(width), width))
        return (widths.count(usual) / len(widths) if usual > 1 else 0.0), usual

    return max(DELIMITERS, key=evenness)
