"""`manyhats keys`: always on the data directory, also while a server runs; it follows within a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli_output import moment, print_json, print_table
from server.storage.callers import Role

if TYPE_CHECKING:
    from server.storage.keys import ApiKey, Keys

app = typer.Typer(
    no_args_is_help=True,
    help="API keys: who may call, which models, how much.\n\nWorks on the data directory; a running server follows.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


DAY_SECONDS = 86_400.0


@app.command(epilog="manyhats keys create ci --model 'legal*' --requests-per-minute 60")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, or who holds it.")],
    role: Annotated[Role, typer.Option(help="`admin` may see and change everything.")] = "inference",
    owner: Annotated[str, typer.Option(help="Whose files and responses it sees; the name if left out.")] = "",
    model: Annotated[
        list[str] | None, typer.Option(help="Models it may use, as a glob; repeatable; all if left out.")
    ] = None,
    store: Annotated[list[str] | None, typer.Option(help="Others' vector stores it may search, as a glob.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="No limit if left out.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="No limit if left out.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Requests at once; no limit if left out.")] = None,
    days: Annotated[float | None, typer.Option(help="Days until it expires; never if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown once, and cannot be shown again."""
    with _keys() as keys:
        caller, secret = keys.create(
            name,
            role=role,
            owner=owner or None,
            models=model or ["*"],
            stores=store or [],
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            max_concurrent=max_concurrent,
            expires_at=None if days is None else time.time() + days * DAY_SECONDS,
        )
    if as_json:
        print_json({"id": caller.key_id, "name": caller.name, "role": caller.role, "key": secret})
        return
    typer.echo(secret)
    typer.echo(f"This is the key {caller.key_id} ({caller.role}); it is not shown again.", err=True)


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """Every key, without its secret; revoked ones too."""
    with _keys() as keys:
        found = [_shown(key) for key in keys.list()]
    if as_json:
        print_json(found)
        return
    columns = ("id", "name", "role", "owner", "models", "ends in", "created", "status")
    rows = [
        (
            key["id"],
            key["name"],
            key["role"],
            key["owner"],
            ", ".join(key["models"]),
            key["last4"],
            moment(key["created_at"]),
            key["status"],
        )
        for key in found
    ]
    print_table(columns, rows, empty="No keys yet: this machine alone may call. `manyhats keys create NAME` makes one.")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, the first 8 characters or more of it, or its name.")],
) -> None:
    """Make a key useless, at once here and within a second in other processes."""
    with _keys() as keys:
        revoked = keys.revoke(key)
    typer.echo(f"revoked {revoked.caller.key_id} ({revoked.caller.name})")


@contextmanager
def _keys() -> Iterator[Keys]:
    from server.settings import load_settings
    from server.storage.database import Database
    from server.storage.keys import Keys

    settings = load_settings()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.sql_url)
    try:
        database.migrate()
        yield Keys(database, file=settings.api_keys_file)
    finally:
        database.close()


def _shown(key: ApiKey) -> dict[str, Any]:
    status = "works"
    if key.revoked_at is not None:
        status = "revoked"
    elif key.expires_at is not None and key.expires_at <= time.time():
        status = "expired"
    return {**key.shown(), "managed": key.managed, "status": status}
