"""How the commands speak: tables for people, JSON for programs, and one line for what went wrong."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer


class CommandFailed(Exception):
    """A command could not be carried out; the message says what would work."""


def print_json(value: object) -> None:
    """The value as indented JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table on stdout, as wide as it needs when that is no terminal; `empty` instead when there are no rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not rows:
        typer.echo(empty)
        return
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else printable(str(cell)) for cell in row))
    console = Console(markup=False, highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        console.width = 10_000  # a program or a file reads it: nothing is cut
    console.print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one per line; empty ones are left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {}, ())}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        typer.echo(f"{name:<{width}}  {printable(str(value))}")


def printable(text: str) -> str:
    """The text on one line, without power over the terminal: what others named may hold escapes, or turn the line."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def moment(unix_seconds: Any) -> str:
    """A time as people here write it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_seconds)) if unix_seconds else ""


def size(n_bytes: int) -> str:
    """Bytes in MB."""
    return f"{n_bytes / 1e6:.1f} MB"


@contextmanager
def errors_are_told() -> Iterator[None]:
    """What a person can mend ends the program with one line on stderr and status 1; the rest are faults of ours."""
    try:
        yield
    except Exception as error:
        message = _told(error)
        if message is None:
            raise
        typer.echo(f"Error: {message}", err=True)
        sys.exit(1)


def _told(error: Exception) -> str | None:
    from pydantic import ValidationError

    from adapters.errors import AdapterError
    from server.engine.vllm_flags import FlagRefused
    from server.settings import PREFIX, UnknownSetting
    from server.storage.errors import StorageError

    if isinstance(error, ValidationError):
        problems = [
            f"{PREFIX}{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" if one["loc"] else str(one["msg"])
            for one in error.errors()
        ]
        return "; ".join(problems)
    known = AdapterError | StorageError | UnknownSetting | FlagRefused | CommandFailed | OSError
    return str(error) if isinstance(error, known) else None
