"""`manyhats files`: over HTTP to a running server, else on the data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli_output import CommandFailed, moment, print_fields, print_json, print_table, size

app = typer.Typer(
    no_args_is_help=True,
    help="Uploaded files. `manyhats ingest` puts a whole folder into a vector store.\n\n"
    "Talks to a running server as `manyhats adapters` does, else works on the data directory.",
)

Url = Annotated[str, typer.Option("--url", help="The server's address, for example http://127.0.0.1:8000.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FileId = Annotated[str, typer.Argument(help="The file's id, file-….")]


@app.command(epilog="manyhats files add manual.pdf notes.md\n\nmanyhats files add manual.pdf --store handbook")
def add(
    paths: Annotated[list[Path], typer.Argument(help="What to upload.", exists=True, dir_okay=False)],
    purpose: Annotated[str, typer.Option(help="What it is for: assistants, user_data, fine-tune, …")] = "assistants",
    store: Annotated[str, typer.Option("--store", help="Also put it into this vector store, by id or name.")] = "",
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Upload files. What is put into a store is read in the background; `manyhats stores show` tells how far it is."""
    from server.client import connect

    files_of_store = f"/v1/vector_stores/{check_name(store)}/files" if store else ""
    with connect(url) as api:
        made: list[dict[str, Any]] = []
        for path in paths:
            made.append(api.call("POST", "/v1/files", form={"purpose": purpose}, file=path))
            if files_of_store:
                api.call("POST", files_of_store, json={"file_id": made[-1]["id"]})
    if as_json:
        print_json(made)
        return
    _print_files(made)


@app.command("list")
def list_files(
    purpose: Annotated[str, typer.Option(help="Only those of this purpose.")] = "",
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Every uploaded file, the newest first."""
    from server.client import connect

    with connect(url) as api:
        found = list(api.pages("/v1/files", limit=1000, params={"purpose": purpose} if purpose else {}))
    if as_json:
        print_json(found)
        return
    _print_files(found)


@app.command()
def show(
    file_id: FileId,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """One file."""
    from server.client import connect

    with connect(url) as api:
        file = api.call("GET", f"/v1/files/{check_name(file_id)}")
    if as_json:
        print_json(file)
        return
    print_fields(
        {
            "id": file["id"],
            "filename": file["filename"],
            "size": size(file["bytes"]),
            "purpose": file["purpose"],
            "created": moment(file["created_at"]),
            "expires": moment(file.get("expires_at")),
        }
    )


@app.command()
def remove(
    file_ids: Annotated[list[str], typer.Argument(help="The files' ids.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = "",
) -> None:
    """Delete files, here and from every vector store."""
    from server.client import connect

    if not yes:
        typer.confirm(f"Delete {', '.join(file_ids)}?", abort=True)
    with connect(url) as api:
        for file_id in file_ids:
            api.call("DELETE", f"/v1/files/{check_name(file_id)}")
            typer.echo(f"deleted {file_id}")


def check_name(name: str) -> str:
    """A store's name, or an id, as part of a path. Raises CommandFailed for one that would be another path."""
    from urllib.parse import quote

    if name in ("", ".", "..") or "/" in name:
        raise CommandFailed(f"{name!r} is no name of a vector store, and no id of a file")
    return quote(name)


def _print_files(files: list[dict[str, Any]]) -> None:
    rows = [
        (one["id"], one["filename"], size(one["bytes"]), one["purpose"], moment(one["created_at"])) for one in files
    ]
    empty = "No files yet. `manyhats files add FILE` uploads one, `manyhats ingest DIR --store NAME` a folder."
    print_table(("id", "filename", "size", "purpose", "created"), rows, empty=empty)
