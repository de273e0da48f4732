"""`manyhats stores`: over HTTP to a running server, else on the data directory."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from server.cli_files import check_name
from server.cli_output import moment, print_fields, print_json, print_table, printable, size

app = typer.Typer(
    no_args_is_help=True,
    help="Vector stores: files that can be searched and answered from.\n\n"
    "Talks to a running server as `manyhats adapters` does, else works on the data directory.",
)

Url = Annotated[str, typer.Option("--url", help="The server's address, for example http://127.0.0.1:8000.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Store = Annotated[str, typer.Argument(help="The store's id or name.")]

SHOWN_CHARS = 200  # of a passage, for people


@app.command("list")
def list_stores(url: Url = "", as_json: Json = False) -> None:
    """Every vector store, the newest first."""
    from server.client import connect

    with connect(url) as api:
        found = list(api.pages("/v1/vector_stores"))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["id"],
            one["name"],
            one["status"],
            one["file_counts"]["total"],
            one["file_counts"]["failed"] or "",
            size(one["usage_bytes"]),
            moment(one["created_at"]),
        )
        for one in found
    ]
    columns = ("id", "name", "status", "files", "failed", "size", "created")
    print_table(columns, rows, empty="No vector stores yet. `manyhats ingest DIR --store NAME` makes one of a folder.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it shall be called.")],
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
    expires_days: Annotated[
        int | None, typer.Option("--expires-days", help="Remove its content this long after its last use.")
    ] = None,
    chunk_tokens: Annotated[
        int | None, typer.Option("--chunk-tokens", help="How long passages are; what fits the embedder if unset.")
    ] = None,
    overlap_tokens: Annotated[
        int | None, typer.Option("--overlap-tokens", help="What neighbouring passages share; half at most.")
    ] = None,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Make an empty vector store."""
    from server.client import connect

    body: dict[str, Any] = {"name": name}
    body |= {"description": description} if description else {}
    body |= {"expires_after": {"anchor": "last_active_at", "days": expires_days}} if expires_days is not None else {}
    if chunk_tokens is not None or overlap_tokens is not None:
        longest = 800 if chunk_tokens is None else chunk_tokens
        overlap = longest // 2 if overlap_tokens is None else overlap_tokens
        static = {"max_chunk_size_tokens": longest, "chunk_overlap_tokens": overlap}
        body["chunking_strategy"] = {"type": "static", "static": static}
    with connect(url) as api:
        _print_store(api.call("POST", "/v1/vector_stores", json=body), as_json=as_json)


@app.command()
def show(store: Store, url: Url = "", as_json: Json = False) -> None:
    """One store, and the files in it that could not be read."""
    from server.client import connect

    path = f"/v1/vector_stores/{check_name(store)}"
    with connect(url) as api:
        found = api.call("GET", path)
        failed = list(api.pages(f"{path}/files", params={"filter": "failed"})) if not as_json else []
    _print_store(found, as_json=as_json)
    if failed:
        rows = [(one["id"], one.get("filename", ""), (one["last_error"] or {}).get("message", "")) for one in failed]
        typer.echo()
        print_table(("failed", "filename", "why"), rows, empty="")


@app.command()
def remove(
    store: Store,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = "",
) -> None:
    """Delete a vector store. Its files stay; `manyhats files remove` deletes those."""
    from server.client import connect

    if not yes:
        typer.confirm(f"Delete {store}?", abort=True)
    with connect(url) as api:
        api.call("DELETE", f"/v1/vector_stores/{check_name(store)}")
    typer.echo(f"deleted {store}")


@app.command(epilog="manyhats stores search handbook 'how long is the notice period?'")
def search(
    store: Store,
    query: Annotated[str, typer.Argument(help="The question.")],
    results: Annotated[int, typer.Option("--results", "-n", min=1, max=50, help="At most so many passages.")] = 5,
    ranker: Annotated[str, typer.Option("--ranker", help="hybrid, dense, lexical or rerank.")] = "hybrid",
    url: Url = "",
    as_json: Json = False,
) -> None:
    """The passages that fit a question best, with their scores and places."""
    from server.client import connect

    body = {"query": query, "max_num_results": results, "ranking_options": {"ranker": ranker}}
    with connect(url) as api:
        found = api.call("POST", f"/v1/vector_stores/{check_name(store)}/search", json=body)["data"]
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("Nothing was found.")
    for number, hit in enumerate(found, 1):
        page = f", page {hit['page']}" if hit.get("page") else ""
        text = " ".join(" ".join(part["text"] for part in hit["content"]).split())
        shown = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
        typer.echo(f"{number}. {hit['score']:.3f}  {printable(hit['filename'])}{page}\n   {printable(shown)}")


@app.command()
def reembed(store: Store, url: Url = "", as_json: Json = False) -> None:
    """Embed a store's passages with the embedder that is served now. Until that is done it answers as before."""
    from server.client import connect

    with connect(url) as api:
        path = f"/v1/vector_stores/{check_name(store)}"
        found = api.call("POST", f"{path}/reembed", json={})
        if api.is_local:  # no server will do it
            api.read_all_files()
            found = api.call("GET", path)
        _print_store(found, as_json=as_json)
        if not as_json and not api.is_local:
            typer.echo("It is embedded anew in the background.")


def _print_store(store: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(store)
        return
    counts = store["file_counts"]
    print_fields(
        {
            "id": store["id"],
            "name": store["name"],
            "description": store.get("description"),
            "status": store["status"],
            "files": ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none",
            "size": size(store["usage_bytes"]),
            "created": moment(store["created_at"]),
            "last used": moment(store["last_active_at"]),
            "expires": moment(store.get("expires_at")),
        }
        | {str(name): value for name, value in (store.get("index") or {}).items() if not isinstance(value, dict | list)}
    )
