"""Plain text, for `continued_pretraining`: {"text": …} on each line, or a text file as it is.

A file is JSON Lines when its first line that is not blank begins like a JSON object or array, so that a broken first
line is an error and not prose. In a text file documents are apart by two blank lines or more, or by a form feed; one
blank line parts paragraphs and stays: a model that saw the text end after each paragraph would stop after each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.training.data.fields import check_format, check_keys
from adapters.training.data.lines import Line, lines, named, object_of, text_of
from adapters.training.errors import DataInvalid

DOCUMENT_BYTES = 1 << 20  # a longer one goes on in another example, from the next blank line on,
MOST_BYTES = 4 << 20  # or from the next line
_JSON = re.compile(rb'\s*(?:\{\s*(?:["}]|$)|\[\s*(?:[\[{"\]]|$))')


@dataclass(frozen=True, slots=True)
class Text:
    """A document."""

    text: str
    line: int  # its first


def text_of_object(line: Line) -> Text:
    """Raises DataInvalid: missing_text, empty_text, wrong_type, and of JSON and keys."""
    number = line.number
    given = object_of(line)
    check_format(given, "continued_pretraining", line=number)
    check_keys(given, ("text",), where="the example", line=number)
    text = given.get("text")
    if text is None:
        raise DataInvalid("missing_text", number, 'there is no `text`; write {"text": "…"}')
    if not isinstance(text, str):
        raise DataInvalid("wrong_type", number, f"text is {named(text)}; it must be a string")
    if not text.strip():
        raise DataInvalid("empty_text", number, "text is empty; leave the line out")
    return Text(text, number)


def text_of_document(document: Line) -> Text:
    """Raises DataInvalid: not_utf8."""
    return Text(text_of(document).replace("\r\n", "\n").strip("\n\f"), document.number)


def is_plain(path: Path) -> bool:
    """Whether a file is text as it is, and not JSON Lines. Raises DataInvalid as `lines` does."""
    first = next((line.raw for line in lines(path) if line.raw.strip()), b"")
    return _JSON.match(first) is None


def documents(path: Path) -> Iterator[Line]:
    """The documents of a text file, as they lie in it: bytes from the first line that is not blank."""
    for held in _groups(path):
        while held and not held[-1].raw.strip():
            held.pop()
        if held:
            raw = b"\n".join(line.raw for line in held)
            yield Line(held[0].number, held[0].start, held[-1].end, raw)


def _groups(path: Path) -> Iterator[list[Line]]:
    held: list[Line] = []
    n_bytes = n_blank = 0
    for line in lines(path):
        is_new_page = b"\f" in line.raw
        is_blank = not line.raw.strip()
        n_blank = n_blank + 1 if is_blank else 0
        is_long = n_bytes > (DOCUMENT_BYTES if is_blank else MOST_BYTES)
        if held and (is_new_page or n_blank == 2 or is_long):
            yield held
            held, n_bytes = [], 0
        if held or not is_blank:
            held.append(line)
            n_bytes += len(line.raw)
    yield held
