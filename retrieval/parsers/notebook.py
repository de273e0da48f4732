"""Jupyter notebooks: their text and code, without outputs, pictures and bookkeeping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from retrieval.parsers.assembly import assemble
from retrieval.parsers.content import Content
from retrieval.passage import Document


def read(content: Content) -> Document:
    """Markdown: text cells as they are, code cells fenced."""
    return assemble("notebook", _cells(json.loads(content.text.lstrip("\ufeff"))), markdown=True)


def _cells(notebook: Any) -> Iterator[str]:
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    for cell in cells if isinstance(cells, list) else []:
        if not isinstance(cell, dict):
            continue
        source = cell.get("source", "")
        text = "".join(map(str, source)) if isinstance(source, list) else str(source)
        if not text.strip():
            continue
        yield f"```\n{text}\n```" if cell.get("cell_type") == "code" else text
