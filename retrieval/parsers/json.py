"""JSON and JSON Lines, as lines `path.to.key: value`.

A chunk from the middle of nested braces would not say what its values belong to; the path before each does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from retrieval.errors import ParseFailed
from retrieval.parsers.assembly import MAX_CHARACTERS, assemble
from retrieval.parsers.content import Content
from retrieval.passage import Document

MAX_DEPTH = 100
MAX_KEY = 200  # characters shown of one key
MAX_LIST = 300  # characters of a list of plain values that stands on one line


def read(content: Content) -> Document:
    """A block of lines per record: per element of a list, per key of an object at the top, per line of JSON Lines."""
    if content.kind == "jsonl":
        return assemble("jsonl", _lines(content.text))
    value = json.loads(content.text.lstrip("\ufeff"))
    if isinstance(value, list):
        return assemble("json", (_block("", element) for element in value))
    return assemble("json", (_block(key[:MAX_KEY], below) for key, below in value.items()))


def _lines(text: str) -> Iterator[str]:
    for number, line in enumerate(text.lstrip("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ParseFailed(
                "invalid_file", f"line {number} of the file is not JSON, as its others are: {error}"
            ) from error
        yield _block("", value)


def _block(path: str, value: Any) -> str:
    lines = []
    length = 0
    for line in _flat(path, value):
        lines.append(line)
        length += len(line) + 1
        if length > MAX_CHARACTERS:
            break  # the document is refused for its length
    return "\n".join(lines)


def _flat(path: str, value: Any) -> Iterator[str]:
    todo = [(path, 0, value)]  # a stack, last first: nesting costs no call depth
    while todo:
        path, depth, value = todo.pop()
        if depth > MAX_DEPTH:
            raise ParseFailed("invalid_file", f"the file is JSON nested more than {MAX_DEPTH} deep: flatten it")
        if isinstance(value, dict):
            below = [(f"{path}.{key[:MAX_KEY]}" if path else key[:MAX_KEY], depth + 1, v) for key, v in value.items()]
            todo.extend(reversed(below))
        elif isinstance(value, list) and (line := _on_one_line(value)) is None:
            todo.extend((f"{path}[{n}]", depth + 1, value[n]) for n in range(len(value) - 1, -1, -1))
        else:
            shown = line if isinstance(value, list) else _shown(value)
            if shown:
                yield f"{path}: {shown}" if path else shown


def _on_one_line(values: list[Any]) -> str | None:
    if len(values) > MAX_LIST or any(isinstance(value, (dict, list)) for value in values):
        return None
    line = ", ".join(map(_shown, values))
    return line if len(line) <= MAX_LIST else None


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)
