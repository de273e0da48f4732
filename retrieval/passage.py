"""What is stored of a file: the text that a parser found, its chunks, and a chunk as a search finds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from retrieval.vector_store import Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The text of a file, with places in it."""

    text: str
    kind: str  # what the content was: "pdf", "docx", "markdown", "text", …
    pages: tuple[tuple[int, int], ...] = ()  # (first character, page from 1), ascending; none where there are no pages
    headings: tuple[tuple[int, tuple[str, ...]], ...] = ()  # (first character, path of headings), ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of a file, as it is stored, shown and counted."""

    text: str
    page: int | None
    heading: tuple[str, ...]
    start: int  # characters of the document's text; text == document.text[start:end]
    end: int
    language: str | None  # ISO 639-1
    tokens: int  # the embedder's
    windows: tuple[tuple[int, int], ...] = field(default=())  # (start, end) in `text` of what is embedded, at least one


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk that is there now, with its file."""

    chunk_id: int
    store_id: str
    file_id: str
    filename: str
    attributes: Attributes
    position: int  # within its file, from 0
    text: str
    page: int | None
    heading: tuple[str, ...]
    start: int
    end: int
    language: str | None
    tokens: int
