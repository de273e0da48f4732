"""Spreadsheets, by openpyxl, which markitdown uses too.

Not by markitdown itself: it goes through pandas and HTML, where empty cells become "NaN" and columns without a name
"Unnamed: 2", and it writes one table per sheet, of which a chunk in the middle has lost the header.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.parsers.rows import rows_as_text
from retrieval.passage import Document


def read(content: Content) -> Document:
    """A heading per sheet, and below it a block of lines per row; formulas as the values last computed."""
    import openpyxl

    with content.path.open("rb") as file:  # a path without the usual ending would be refused
        workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        return assemble("xlsx", _sheets(workbook), markdown=True)


def _sheets(workbook: Any) -> Iterator[str]:
    for sheet in workbook.worksheets:
        blocks = rows_as_text(_cells(sheet))
        first = next(blocks, None)
        if first is None:
            continue
        yield f"## {sheet.title}"
        yield first
        yield from blocks


def _cells(sheet: Any) -> Iterator[Sequence[str]]:
    sheet.reset_dimensions()  # what the file says of its size may be wrong, or a million empty rows
    for row in sheet.iter_rows(values_only=True):
        yield [_shown(value) for value in row]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    if isinstance(value, float):
        return f"{value:.15g}"  # as many digits as Excel keeps
    return str(value)
