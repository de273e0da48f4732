"""The lines of a training file, one in memory at a time, and the JSON object that a line holds.

JSON is read strictly: what others would read in another way (a key twice, NaN, half a character) is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from adapters.training.errors import DataInvalid

MAX_LINE_BYTES = 4 << 20  # some million tokens: longer than any context
MAX_DEPTH = 64  # of arrays and objects within each other
UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # surrogates: harmless in pairs


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a document of several, without the line's end."""

    number: int  # from 1
    start: int  # bytes from the start of the file
    end: int  # likewise
    raw: bytes


def lines(path: Path) -> Iterator[Line]:
    """Every line, also blank ones. Raises DataInvalid: too_long, not_utf8 (UTF-16), binary."""
    start = 0
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            n_bytes = len(raw)
            if n_bytes > MAX_LINE_BYTES:
                raise DataInvalid(
                    "too_long",
                    number,
                    f"the line is longer than {MAX_LINE_BYTES >> 20} MiB; one line holds one example, "
                    "and no context holds so much",
                )
            if number == 1:
                _check_encoding(raw)
            if b"\0" in raw:
                raise DataInvalid("binary", number, "the line holds a zero byte; training files are text in UTF-8")
            mark = len(UTF8_MARK) if number == 1 and raw.startswith(UTF8_MARK) else 0
            content = raw[mark:].rstrip(b"\r\n")
            yield Line(number, start + mark, start + mark + len(content), content)
            start += n_bytes


def text_of(line: Line) -> str:
    """Raises DataInvalid: not_utf8, with the line of the wrong byte also within a document."""
    try:
        return line.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = line.raw[: error.start]
        column = error.start - before.rfind(b"\n")
        raise DataInvalid(
            "not_utf8",
            line.number + before.count(b"\n"),
            f"byte {column} of the line (0x{line.raw[error.start]:02x}) is not UTF-8; save the file in UTF-8",
        ) from None


def object_of(line: Line) -> dict[str, Any]:
    """The line's JSON object. Raises DataInvalid: array_file, not_object and what `strict_json` raises."""
    text = text_of(line)
    value = strict_json(text, line.number)
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and value and isinstance(value[0], dict):
        raise DataInvalid(
            "array_file", line.number, "the file is a JSON array; write JSON Lines: each example on a line, without [ ]"
        )
    raise DataInvalid(
        "not_object", line.number, f"the line is {named(value)}; each line must be a JSON object, from {{ to }}"
    )


def strict_json(text: str, line: int) -> Any:
    """Raises DataInvalid: not_json, array_file, duplicate_key, not_finite, lone_surrogate, too_deep."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise DataInvalid(
                "array_file", line, "the file looks like a JSON array; write JSON Lines: each example whole on one line"
            ) from None
        raise DataInvalid("not_json", line, _what_is_wrong(text, error)) from None
    except _Repeated as error:
        raise DataInvalid(
            "duplicate_key", line, f"the key {shown(error.key)} stands twice in one object; keep one of them"
        ) from None
    except _NotFinite as error:
        raise DataInvalid(
            "not_finite", line, f"{error.number} is no JSON number; write a finite number, null or a string"
        ) from None
    except RecursionError:
        raise _too_deep(line) from None
    except ValueError:  # Python reads no integer of thousands of digits
        raise DataInvalid("not_json", line, "a number has thousands of digits; write it as a string") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise _too_deep(line)
    if _HALF_CHARACTER.search(text) is not None:
        _check_surrogates(value, line)
    return value


def shown(value: object) -> str:
    """A value as an error may name it: short."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "…"


def named(value: object) -> str:
    """What a JSON value is, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _check_encoding(raw: bytes) -> None:
    if raw.startswith(_UTF16_MARKS):
        raise DataInvalid("not_utf8", 1, "the file is UTF-16; save it in UTF-8")


def _what_is_wrong(text: str, error: json.JSONDecodeError) -> str:
    if text.strip() in ("{", "[") or error.pos >= len(text.rstrip()):
        return f"the line ends within its JSON (column {error.colno}); each example must be whole, on one line"
    return (
        f"not JSON at column {error.colno}: {error.msg[0].lower()}{error.msg[1:]}, at {shown(text[error.pos :][:20])}"
    )


class _Repeated(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _NotFinite(Exception):
    def __init__(self, number: str) -> None:
        super().__init__(number)
        self.number = number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Repeated(next(key for key in keys if keys.count(key) > 1))
    return found


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise _NotFinite(number[:20])
    return value


def _no_constant(name: str) -> NoReturn:
    raise _NotFinite(name)


# one decoder for all lines: json.loads would make one for each
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)


def _too_deep(line: int) -> DataInvalid:
    return DataInvalid(
        "too_deep", line, f"arrays and objects lie within each other, deeper than {MAX_DEPTH}; flatten them"
    )


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(inner, list | dict) for inner in level)


def _check_surrogates(value: object, line: int) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataInvalid(
            "lone_surrogate",
            line,
            f"{half} is half a character: its other half is missing; write characters as UTF-8",
        ) from None
