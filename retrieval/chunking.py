"""From a document to the passages that are stored and shown: chunks, each with the windows that are embedded.

Where to cut is semantic-text-splitter's decision: at headings, paragraphs, sentences, words, in this order. It would
read every passage several times over to count its tokens (30 s for 10 MB); here a document is read once, in blocks,
and the splitter's counts come from the tokens' places. What it made is counted again by itself, and holds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Encoding, Tokenizer

from retrieval.language import language_of, languages_of
from retrieval.passage import Chunk, Document
from retrieval.vector_store import Chunking
from retrieval.windows import MAX_CHARACTERS_PER_TOKEN, capacity, cuts, windows_of

VERSION = 1  # raise it with any change that cuts the same text elsewhere

_MARKDOWN = frozenset(("markdown", "docx", "pptx", "xlsx", "html", "epub", "notebook"))
_BLOCK_PASSAGES = 8  # about so many are split at once
_MAX_INDENT = 40
_BATCH = 256  # passages counted at once

Span = tuple[int, int]  # first character, one past the last


def chunk(document: Document, tokenizer: Tokenizer, chunking: Chunking, *, window_tokens: int) -> list[Chunk]:
    """The document's passages in order, each with its place, language and windows; `text == document.text[start:end]`.

    `tokenizer` is the embedder's, without truncation and padding, and `window_tokens` what it sees of one text, with
    its special tokens. No passage has more tokens than `chunking` says (special ones not counted), nor more than
    `MAX_CHARACTERS_PER_TOKEN` characters for each of them. Neighbours share as many whole sentences (or paragraphs,
    where they are cut between those) as fit into the overlap. All but white space is in some passage.
    """
    max_tokens, overlap_tokens = sizes(chunking, window_tokens=window_tokens)
    passages = _passages(document, tokenizer, max_tokens, overlap_tokens)
    language = None if document.kind == "code" else language_of(document.text)
    found: list[Chunk] = []
    while batch := list(islice(passages, _BATCH)):
        texts = [document.text[start:end] for (start, end), _ in batch]
        languages = [None] * len(texts) if document.kind == "code" else languages_of(texts, file=language)
        for ((start, end), encoding), text, spoken in zip(batch, texts, languages, strict=True):
            found.append(
                Chunk(
                    text=text,
                    page=_page(document, start),
                    heading=_heading(document, start),
                    start=start,
                    end=end,
                    language=spoken,
                    tokens=len(encoding),
                    windows=windows_of(text, encoding, tokenizer, window_tokens=window_tokens),
                )
            )
    return found


def sizes(chunking: Chunking, *, window_tokens: int) -> tuple[int, int]:
    """(most tokens of a chunk, tokens that neighbours share).

    `static` is taken as asked. `auto` fills one window, up to OpenAI's 800: see `windows.capacity`. The overlap grows
    with it from a sixth to OpenAI's half: 40 of 240, 204 of 496, 400 of 800.
    """
    if chunking.type == "static":
        return chunking.max_tokens, chunking.overlap_tokens
    max_tokens = min(800, capacity(window_tokens))
    return max_tokens, max(max_tokens // 6, 40 + (max_tokens - 240) * 9 // 14)


def _passages(
    document: Document, tokenizer: Tokenizer, max_tokens: int, overlap_tokens: int
) -> Iterator[tuple[Span, Encoding]]:
    """Where the passages lie, ascending, trimmed, with the tokens of each, which are at most `max_tokens`."""
    covered = 0
    for (start, end), encoding in _in_order(_counted(document, tokenizer, max_tokens, overlap_tokens)):
        if end > covered:  # else all of it is in the one before
            yield (start, end), encoding
            covered = end


def _in_order(passages: Iterator[tuple[Span, Encoding, bool]]) -> Iterator[tuple[Span, Encoding]]:
    """The rests of passages that had to be cut behind those that begin before them, where passages overlap."""
    rests: list[tuple[Span, Encoding]] = []
    for span, encoding, is_rest in passages:
        if is_rest:
            rests.append((span, encoding))
            continue
        while rests and rests[0][0] < span:
            yield rests.pop(0)
        yield span, encoding
        rests.sort(key=lambda rest: rest[0])
    yield from rests


def _counted(
    document: Document, tokenizer: Tokenizer, max_tokens: int, overlap_tokens: int
) -> Iterator[tuple[Span, Encoding, bool]]:
    """The splitter's passages, counted by themselves; what is too long is cut, and all but its first piece is a rest.

    That is rare: where a cut within a word made more tokens of its rest than the whole word had.
    """
    rough = _rough_spans(document, tokenizer, max_tokens, overlap_tokens)
    while batch := list(islice(rough, _BATCH)):
        texts = [document.text[start:end] for start, end in batch]
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        for (start, end), text, encoding in zip(batch, texts, encodings, strict=True):
            if len(encoding) <= max_tokens:
                yield (start, end), encoding, False
                continue
            bare = text.lstrip()
            if len(bare) < len(text) and len(counted := tokenizer.encode(bare, add_special_tokens=False)) <= max_tokens:
                yield (end - len(bare), end), counted, False  # too long by its indent, for a tokenizer that counts it
                continue
            for first, last in cuts(text, encoding, tokenizer, max_tokens=max_tokens, overlap_tokens=0):
                span = _trimmed(document.text, start + first, start + last, max_tokens)
                if span is not None:
                    piece = tokenizer.encode(document.text[slice(*span)], add_special_tokens=False)
                    yield span, piece, first > 0


def _rough_spans(document: Document, tokenizer: Tokenizer, max_tokens: int, overlap_tokens: int) -> Iterator[Span]:
    """The splitter's passages, block by block: the last one of a block begins the next, as if there were no blocks.

    Blocks are short because the splitter's time grows with the square of text that has no sentences.
    """
    text = document.text
    splitter = MarkdownSplitter if document.kind in _MARKDOWN else TextSplitter
    start, length = 0, max_tokens * _BLOCK_PASSAGES
    while start < len(text):
        block = text[start : start + length]
        counter = _Counter(block, tokenizer.encode(block, add_special_tokens=False))
        made = splitter.from_callback(counter.size, max_tokens, overlap_tokens, trim=False).chunk_indices(block)
        last = start + len(block) == len(text)
        if len(made) < 2 and not last:
            length *= 2
            continue
        for first, passage in made if last else made[:-1]:
            span = _trimmed(text, start + first, start + first + len(passage), max_tokens)
            if span is not None:
                yield span
        if last:
            return
        start += made[-1][0]
        length = math.ceil(max_tokens * _BLOCK_PASSAGES * counter.characters_per_token)


class _Counter:
    """Sizes of parts of a block, without reading them again."""

    def __init__(self, block: str, encoding: Encoding) -> None:
        self._block = block
        self._starts = [start for start, _ in encoding.offsets]
        self._near = 0  # where the last part was: the splitter asks for many that begin at one place

    @property
    def characters_per_token(self) -> float:
        """As a splitter sees them, so at most `MAX_CHARACTERS_PER_TOKEN`."""
        return len(self._block) / self.size(self._block)

    def size(self, part: str) -> int:
        """Tokens of a part of the block, or its characters where it has too many for so few tokens."""
        if not self._block.startswith(part, self._near):
            found = self._block.find(part, self._near)
            self._near = found if found >= 0 else self._block.index(part)  # the same text elsewhere counts the same
        tokens = bisect_left(self._starts, self._near + len(part)) - bisect_left(self._starts, self._near)
        return max(tokens, -(-len(part) // MAX_CHARACTERS_PER_TOKEN))


def _trimmed(text: str, start: int, end: int, max_tokens: int) -> Span | None:
    """Without white space around it, except the indent of its first line; None where there is nothing else.

    The splitter leaves the indent to the passage before, so this may begin before `start`.
    """
    body = text[start:end]
    end = start + len(body.rstrip())
    if end == start:
        return None
    first = start + len(body) - len(body.lstrip())
    line = text.rfind("\n", max(0, first - _MAX_INDENT), first) + 1
    is_indent = (line or first <= _MAX_INDENT) and not text[line:first].strip(" \t")
    if is_indent and end - line <= max_tokens * MAX_CHARACTERS_PER_TOKEN:
        return line, end
    return first, end


def _page(document: Document, start: int) -> int | None:
    place = bisect_right(document.pages, start, key=lambda page: page[0])
    return document.pages[place - 1][1] if place else None


def _heading(document: Document, start: int) -> tuple[str, ...]:
    place = bisect_right(document.headings, start, key=lambda heading: heading[0])
    return document.headings[place - 1][1] if place else ()
