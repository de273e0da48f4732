"""From a file to its text, whatever its kind.

`parse` reads a file here and now; `parse_apart` does so in a process of its own, and is what untrusted files need.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from retrieval.errors import ParseFailed
from retrieval.parsers.content import Content
from retrieval.parsers.recognition import recognised
from retrieval.parsing_apart import parse_apart
from retrieval.passage import Document

__all__ = ["NAMES", "PARSERS", "parse", "parse_apart"]

Parser = Callable[[Content], Document]

# kind → the module that reads it, imported when the first file of its kind comes
PARSERS: dict[str, str] = {
    "pdf": "retrieval.parsers.pdf",
    "docx": "retrieval.parsers.docx",
    "pptx": "retrieval.parsers.pptx",
    "xlsx": "retrieval.parsers.xlsx",
    "epub": "retrieval.parsers.epub",
    "html": "retrieval.parsers.html",
    "markdown": "retrieval.parsers.markdown",
    "text": "retrieval.parsers.text",
    "code": "retrieval.parsers.text",
    "csv": "retrieval.parsers.csv",
    "json": "retrieval.parsers.json",
    "jsonl": "retrieval.parsers.json",
    "notebook": "retrieval.parsers.notebook",
}
# how a sentence names a kind
NAMES = {
    **{kind: kind.upper() for kind in PARSERS},
    "markdown": "Markdown",
    "text": "text",
    "code": "source code",
    "jsonl": "JSON Lines",
    "notebook": "a Jupyter notebook",
}


def parse(path: Path, filename: str) -> Document:
    """The text of the file at `path`, which its owner calls `filename`, with the places of pages and headings.

    The kind is found in the content; the name only tells texts apart (Markdown, CSV, code). Raises ParseFailed, whose
    sentence says what is wrong with the file and what to do, and MemoryError.
    """
    content = recognised(path, filename)
    read: Parser = import_module(PARSERS[content.kind]).read
    try:
        return read(content)
    except (ParseFailed, MemoryError):
        raise
    except Exception as error:  # on a damaged file, the libraries raise anything
        raise ParseFailed("invalid_file", _damaged(content.kind, error)) from error


def _damaged(kind: str, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return (
        f"the file looks like {NAMES[kind]}, but is damaged or unusual and cannot be read ({reason}): open it in the "
        "program that made it, save it again and upload the new copy"
    )
