"""`manyhats adapters`: over HTTP to a running server, else on the data directory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from server.cli_output import CommandFailed, moment, print_fields, print_json, print_table, size

app = typer.Typer(
    no_args_is_help=True,
    help="LoRA adapters: add, look at, move a name between versions, remove.\n\nTalks to the server at --url (or "
    "MANYHATS_URL, with the key in MANYHATS_API_KEY), else to the one that runs on this data directory, else works on "
    "the data directory itself.",
)

Url = Annotated[str, typer.Option("--url", help="The server's address, for example http://127.0.0.1:8000.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The adapter's name.")]
Rank = Annotated[int | None, typer.Option("--rank", min=1, help="Make it of this rank, by truncated SVD.")]
Error = Annotated[
    float | None,
    typer.Option("--error", help="Or of the least rank whose relative error is at most this, such as 0.05."),
]

POLL_SECONDS = 0.5


@app.command(
    epilog="manyhats adapters add ./my-lora --name legal\n\n"
    "manyhats adapters add hf://org/repo@main --name legal\n\n"
    "manyhats adapters add ./better --name legal --new-version --activate"
)
def add(
    source: Annotated[str, typer.Argument(help="Its folder, .zip or .tar.gz; or hf://, s3:// as the server allows.")],
    name: Annotated[str, typer.Option("--name", help="What clients shall write as `model`.")],
    new_version: Annotated[bool, typer.Option("--new-version", help="A further version of a name that is there.")] = (
        False
    ),
    activate: Annotated[bool, typer.Option("--activate", help="Move the name to the new version at once.")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="Keep it in a slot of its own.")] = False,
    rank: Rank = None,
    error: Error = None,
    convert: Annotated[bool, typer.Option("--convert", help="Make a plain LoRA of another kind first.")] = False,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Register an adapter, or a further version of one. It is checked before any engine sees it."""
    from server.client import connect
    from server.packing import packed

    if activate and not new_version:
        raise CommandFailed("--activate goes with --new-version; a new name points to its first version anyway")
    path = f"/v1/adapters/{name}/versions" if new_version else "/v1/adapters"
    fields: dict[str, Any] = {} if new_version else {"name": name, "pin": pin}
    fields |= {"activate": True} if activate else {}
    conversion = conversion_of(rank, error)
    wanted = convert or bool(conversion)
    with connect(url) as api:
        if "://" in source:
            body = fields | {"source": source} | ({"convert": conversion} if wanted else {})
            shown = _settled(api, api.call("POST", path, json=body))
        else:
            form = {key: str(value).lower() if isinstance(value, bool) else value for key, value in fields.items()}
            form |= {"convert": json.dumps(conversion)} if wanted else {}
            with packed(Path(source)) as archive:
                shown = api.call("POST", path, form=form, file=archive)
        _print_adapter(shown, as_json=as_json, is_local=api.is_local)


@app.command(
    epilog="manyhats adapters convert ./my-dora --out ./my-lora --rank 16\n\n"
    "manyhats adapters convert ./fine-tuned-model --out ./my-lora --error 0.1"
)
def convert(
    source: Annotated[Path, typer.Argument(help="An adapter's folder, .zip or .tar.gz; or a fine-tuned base model.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the plain LoRA.")],
    rank: Rank = None,
    error: Error = None,
    as_json: Json = False,
) -> None:
    """Make a plain LoRA of another kind of adapter, or of a fine-tuned base model, and say how near it comes.

    Needs no server: reads the weights of MANYHATS_MODEL, one after the other.
    """
    from server.converting import convert_folder

    conversion_of(rank, error)
    made = convert_folder(source, out, rank=rank, error=error)
    if as_json:
        print_json(made)
        return
    errors: dict[str, float] = made.pop("relative_error")
    left_out: dict[str, float] = made.pop("left_out", {})
    print_fields({**made, "largest error": f"{max(errors.values()):.2g}"})
    print_table(("module", "relative error"), [(name, f"{lost:.2g}") for name, lost in errors.items()], empty="")
    if left_out:
        rows = [(name, f"{change:.2g}") for name, change in left_out.items()]
        print_table(("not in it, though it changed", "by"), rows, empty="")


@app.command(
    epilog="manyhats adapters mix blend pirate=0.7 json=0.3\n\n"
    "manyhats adapters mix blend pirate=1 json=1 --method ties --density 0.3 --rank 16"
)
def mix(
    name: Name,
    adapters: Annotated[list[str], typer.Argument(help="Two or more, as NAME=WEIGHT or NAME@DIGEST=WEIGHT.")],
    method: Annotated[str, typer.Option("--method", help="linear, ties, dare_linear or dare_ties.")] = "linear",
    density: Annotated[
        float | None, typer.Option("--density", help="The share of entries that TIES and DARE keep; 0.5 if not given.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of DARE's choice; 0 if not given.")] = None,
    rank: Rank = None,
    error: Error = None,
    new_version: Annotated[bool, typer.Option("--new-version", help="A further version of a name that is there.")] = (
        False
    ),
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Make one adapter of several, each with its weight."""
    from server.client import connect

    body: dict[str, Any] = {} if new_version else {"name": name}
    body["mix"] = {"adapters": _weights(adapters), "method": method}
    body["mix"] |= {key: value for key, value in (("density", density), ("seed", seed)) if value is not None}
    body |= {"convert": conversion} if (conversion := conversion_of(rank, error)) else {}
    with connect(url) as api:
        shown = api.call("POST", f"/v1/adapters/{name}/versions" if new_version else "/v1/adapters", json=body)
        _print_adapter(shown, as_json=as_json, is_local=api.is_local)


@app.command("list")
def list_adapters(url: Url = "", as_json: Json = False) -> None:
    """Every adapter, what its name means now, and whether it fits the base model."""
    from server.client import connect

    with connect(url) as api:
        found = [_honest(one, is_local=api.is_local) for one in api.call("GET", "/v1/adapters")["data"]]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["name"],
            one["status"] if one["fits"] else f"made for {one['base']}",
            _traffic(one),
            len(one["versions"]),
            "pinned" if one["pinned"] else "",
            moment(one["created_at"]),
        )
        for one in found
    ]
    columns = ("name", "status", "means", "versions", "", "created")
    print_table(columns, rows, empty="No adapters yet. `manyhats adapters add FOLDER --name NAME` adds one.")


@app.command()
def show(name: Name, url: Url = "", as_json: Json = False) -> None:
    """One adapter: its versions, where they came from, and what the check found."""
    from server.client import connect

    with connect(url) as api:
        _print_adapter(api.call("GET", f"/v1/adapters/{name}"), as_json=as_json, is_local=api.is_local)


@app.command(
    epilog="manyhats adapters alias legal 4f1a22\n\nmanyhats adapters alias legal previous\n\n"
    "manyhats adapters alias legal 4f1a22=95 9bc001=5"
)
def alias(
    name: Name,
    versions: Annotated[
        list[str], typer.Argument(help="A version's id or digest, `previous`, or several as VERSION=WEIGHT.")
    ],
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Move a name to another version: an upgrade, a rollback (`previous`) or a share of the traffic."""
    from server.client import connect

    with connect(url) as api:
        shown = api.call("POST", f"/v1/adapters/{name}/alias", json=_target(versions))
        _print_adapter(shown, as_json=as_json, is_local=api.is_local)


@app.command()
def pin(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Let it share slots again.")] = False,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Keep an adapter in an engine slot of its own, so that it never waits for one."""
    from server.client import connect

    with connect(url) as api:
        shown = api.call("POST", f"/v1/adapters/{name}/pin", json={"pinned": not off})
        _print_adapter(shown, as_json=as_json, is_local=api.is_local)


@app.command()
def remove(
    name: Name,
    version: Annotated[str, typer.Option("--version", help="Only this version, which no name may point to.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = "",
) -> None:
    """Remove a name with its versions and their files. Requests that run end first."""
    from server.client import connect

    what = f"version {version} of {name}" if version else f"{name} with all its versions"
    if not yes:
        typer.confirm(f"Remove {what}?", abort=True)
    with connect(url) as api:
        api.call("DELETE", f"/v1/adapters/{name}/versions/{version}" if version else f"/v1/adapters/{name}")
    typer.echo(f"removed {what}")


def conversion_of(rank: int | None, error: float | None) -> dict[str, Any]:
    """The API's `convert`; raises CommandFailed for both."""
    if rank is not None and error is not None:
        raise CommandFailed("give either --rank or --error: a rank has the error that it has")
    if error is not None and not 0 < error < 1:
        raise CommandFailed(f"--error {error:g}: give a share between 0 and 1, such as 0.05")
    return {"rank": rank} if rank is not None else {"error": error} if error is not None else {}


def _weights(words: list[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for word in words:
        adapter, _, weight = word.rpartition("=")
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if not adapter or not math.isfinite(number):
            raise CommandFailed(f"{word!r}: give each adapter with its weight, such as pirate=0.7 json=0.3")
        if adapter in weights:
            raise CommandFailed(f"{adapter!r} is named twice; give it one weight")
        weights[adapter] = number
    return weights


def _target(versions: list[str]) -> dict[str, Any]:
    if len(versions) == 1 and "=" not in versions[0]:
        return {"version": versions[0]}
    traffic = {}
    for word in versions:
        version, _, weight = word.partition("=")
        if not weight.isdigit():
            raise CommandFailed(f"{word!r}: give one version, or several as VERSION=WEIGHT, such as 4f1a22=95 9bc001=5")
        traffic[version] = int(weight)
    return {"traffic": traffic}


def _settled(api: Any, shown: dict[str, Any]) -> dict[str, Any]:
    """What became of a source that the server fetches in the background."""
    while shown["status"] == "staging":
        api.wait(POLL_SECONDS)
        shown = api.call("GET", f"/v1/adapters/{shown['name']}")
    if shown["status"] == "failed":
        raise CommandFailed(f"{shown['source']}: {shown['error']}")
    return shown


def _honest(adapter: dict[str, Any], *, is_local: bool) -> dict[str, Any]:
    """Without what only an engine knows when there is none."""
    if not is_local:
        return adapter
    versions = [{key: value for key, value in one.items() if key != "loaded"} for one in adapter["versions"]]
    return {**adapter, "versions": versions}


def _print_adapter(adapter: dict[str, Any], *, as_json: bool, is_local: bool) -> None:
    adapter = _honest(adapter, is_local=is_local)
    if as_json:
        print_json(adapter)
        return
    print_fields(
        {
            "name": adapter["name"],
            "status": adapter["status"],
            "error": adapter["error"],
            "means": _traffic(adapter),
            "pinned": "yes" if adapter["pinned"] else "",
            "base": adapter["base"] if adapter["fits"] else f"{adapter['base']}, which is not served now",
            "source": adapter["source"],
            "warnings": "; ".join(_warnings(adapter)),
        }
    )
    columns = ("version", "rank", "size", "source", "created", "")
    rows = [
        (
            one["id"],
            one["rank"],
            size(one["bytes"]),
            one["source"],
            moment(one["created_at"]),
            one["error"] or ("loaded" if one.get("loaded") else ""),
        )
        for one in adapter["versions"]
    ]
    print_table(columns, rows, empty="no versions")


def _warnings(adapter: dict[str, Any]) -> list[str]:
    found = [warning for one in adapter["versions"] for warning in one["details"].get("warnings", [])]
    return list(dict.fromkeys(found))


def _traffic(adapter: dict[str, Any]) -> str:
    shares: dict[str, int] = adapter["traffic"]
    if len(shares) == 1:
        return next(iter(shares))
    return ", ".join(f"{version}={weight}" for version, weight in shares.items())
