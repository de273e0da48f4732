"""`manyhats serve`: every setting is an option, named and explained by the setting itself."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from server.settings import PREFIX, Settings

# the first setting of each group, as they stand in server/settings.py
PANELS = {
    "host": "Where it listens",
    "data_dir": "Where it keeps things",
    "model": "What it serves",
    "max_rank": "Adapters",
    "api_keys_file": "Access",
    "max_body_bytes": "Limits",
    "log_format": "Seen from outside",
}

EPILOG = (
    "Each option is also an environment variable: --max-rank is MANYHATS_MAX_RANK.\n\n"
    "manyhats serve --model Qwen/Qwen3-0.6B --embedder intfloat/multilingual-e5-small --port 9000\n\n"
    "manyhats serve -- --max-num-seqs 64"
)


def _with_settings_as_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command one option per setting; typer reads them from the signature."""
    flags = typer.Argument(None, metavar="[-- VLLM_FLAGS]", help="Further vLLM flags, after `--`.")
    parameters = [inspect.Parameter("flags", inspect.Parameter.KEYWORD_ONLY, default=flags)]
    annotations: dict[str, Any] = {"flags": list[str] | None}
    panel = ""
    for name, field in Settings.model_fields.items():
        panel = PANELS.get(name, panel)
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_option(name, field, panel)))
        annotations[name] = str | None
    parameters = [parameter.replace(annotation=annotations[parameter.name]) for parameter in parameters]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what `inspect` looks for
    command.__annotations__ = annotations
    return command


def _option(name: str, field: FieldInfo, panel: str) -> Any:
    default = "the demo" if name == "model" else field.default
    shown = "" if default in (None, "", (), PydanticUndefined) else f" [dim]\\[{default}][/dim]"
    return typer.Option(
        None,
        f"--{name.replace('_', '-')}",
        metavar=_kind(field),
        help=f"{field.description}{shown}",
        show_default=False,
        rich_help_panel=panel,
    )


def _kind(field: FieldInfo) -> str:
    text = str(field.annotation)
    for part, shown in (("bool", "true|false"), ("int", "N"), ("float", "N"), ("Path", "PATH"), ("Literal", "")):
        if part in text:
            return shown or "|".join(getattr(field.annotation, "__args__", ()))
    return "A,B,…" if "tuple" in text else "TEXT"


@_with_settings_as_options
def serve(**options: Any) -> None:
    """Serve the base model and its adapters until told to stop (Ctrl-C)."""
    from server.serve import serve as run
    from server.settings import load_settings

    flags = options.pop("flags", None) or []
    given = {f"{PREFIX}{name.upper()}": value for name, value in options.items() if value is not None}
    os.environ.update(given)  # where the child processes read their settings too
    raise typer.Exit(run(load_settings(), vllm_args=flags, show=typer.echo))
