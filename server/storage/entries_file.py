"""YAML files that an operator writes: a list of entries, checked as strictly as a compiler would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from server.storage.errors import FileInvalid

Entry = TypeVar("Entry", bound=BaseModel)


def read_entries(path: Path, kind: type[Entry]) -> list[Entry]:
    """The entries of a file in their order; an empty file has none.

    Raises FileInvalid, which names the file, the entry and the field, and never shows a value: it may be a secret.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FileInvalid(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise FileInvalid(f"{path}{place}: not YAML: {getattr(error, 'problem', None) or 'unreadable'}") from error
    if content is None:
        return []
    if not isinstance(content, list):
        raise FileInvalid(f"{path}: must be a list of entries, each beginning with '- name:'")
    return [_entry(path, number, raw, kind) for number, raw in enumerate(content, start=1)]


def first_problem(error: ValidationError) -> str:
    """The first field that pydantic refused and why, in one sentence."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        reason = "unknown field; leave it out"
    return f"{field}: {reason}" if field else reason


def _entry(path: Path, number: int, raw: Any, kind: type[Entry]) -> Entry:
    name = raw.get("name") if isinstance(raw, Mapping) else None
    place = f"{path}: entry {number}" + (f" ({name!r})" if isinstance(name, str) else "")
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise FileInvalid(f"{place}: {first_problem(error)}") from error
