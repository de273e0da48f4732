"""`manyhats assistants`: over HTTP to a running server, else on the data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli_output import CommandFailed, moment, print_fields, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    help="Assistants: names for a model or adapter with instructions, vector stores, examples and default sampling."
    "\n\nTalks to a running server as `manyhats adapters` does, else works on the data directory.",
)

Url = Annotated[str, typer.Option("--url", help="The server's address, for example http://127.0.0.1:8000.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The assistant's name or id.")]


@app.command(
    epilog="manyhats assistants add lawyer --model legal --instructions 'You answer in one sentence.'\n\n"
    "manyhats assistants add lawyer --file lawyer.yaml"
)
def add(
    name: Annotated[str, typer.Argument(help="What clients shall write as `model`.")],
    model: Annotated[str, typer.Option("--model", help="The base model or an adapter.")] = "",
    instructions: Annotated[str, typer.Option("--instructions", help="What the model is told first.")] = "",
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
    store: Annotated[list[str] | None, typer.Option("--store", help="A store to answer from; repeatable.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Default, where a request gives none.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Default, where a request gives none.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="YAML or JSON with OpenAI's assistant fields and `examples`.")
    ] = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Make an assistant. What is given as an option goes before what stands in --file."""
    from server.client import connect

    given: dict[str, Any] = {
        "model": model,
        "instructions": instructions,
        "description": description,
        "temperature": temperature,
        "top_p": top_p,
    }
    body = _read(file) | {"name": name} | {key: value for key, value in given.items() if value not in ("", None)}
    if store:
        body["tools"] = [*body.get("tools", []), {"type": "file_search"}]
        body["tool_resources"] = {"file_search": {"vector_store_ids": store}}
    with connect(url) as api:
        _print_assistant(api.call("POST", "/v1/assistants", json=body), as_json=as_json)


@app.command("list")
def list_assistants(url: Url = "", as_json: Json = False) -> None:
    """Every assistant and the model that it stands for."""
    from server.client import connect

    found: list[dict[str, Any]] = []
    with connect(url) as api:
        page: dict[str, Any] = {"has_more": True}
        while page["has_more"]:
            after = {"after": str(found[-1]["id"])} if found else {}
            page = api.call("GET", "/v1/assistants", params={"limit": "100", "order": "asc", **after})
            found += page["data"]
    if as_json:
        print_json(found)
        return
    rows = [(one["name"], one["model"], one["id"], one["managed"], moment(one["created_at"])) for one in found]
    columns = ("name", "model", "id", "managed by", "created")
    print_table(columns, rows, empty="No assistants yet. `manyhats assistants add NAME --model MODEL` adds one.")


@app.command()
def show(name: Name, url: Url = "", as_json: Json = False) -> None:
    """One assistant."""
    from server.client import connect

    with connect(url) as api:
        _print_assistant(api.call("GET", f"/v1/assistants/{name}"), as_json=as_json)


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = "",
) -> None:
    """Remove an assistant; its model and its stores stay."""
    from server.client import connect

    if not yes:
        typer.confirm(f"Remove the assistant {name}?", abort=True)
    with connect(url) as api:
        api.call("DELETE", f"/v1/assistants/{name}")
    typer.echo(f"removed {name}")


def _read(file: Path | None) -> dict[str, Any]:
    import yaml

    if file is None:
        return {}
    try:
        found = yaml.safe_load(file.read_text())  # JSON is YAML too
    except yaml.YAMLError as error:
        raise CommandFailed(f"{str(file)!r} is neither YAML nor JSON: {error}") from error
    if not isinstance(found, dict):
        raise CommandFailed(f"{str(file)!r} must hold one assistant: `model: …` and further fields")
    return found


def _print_assistant(assistant: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(assistant)
        return
    stores = (assistant.get("tool_resources") or {}).get("file_search", {}).get("vector_store_ids", [])
    shown = {key: value for key, value in assistant.items() if key not in ("object", "tools", "tool_resources")}
    shown |= {"created_at": moment(assistant["created_at"]), "examples": len(assistant.get("examples") or [])}
    print_fields(shown | {"stores": ", ".join(stores)})
