"""`manyhats ingest`: makes a vector store equal to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli_output import print_json, printable

EPILOG = (
    "manyhats ingest ./handbook --store handbook\n\n"
    "manyhats ingest . --store docs --include '*.md' --include '*.pdf' --exclude 'drafts/*'"
)

Globs = list[str] | None


def ingest(
    folder: Annotated[Path, typer.Argument(help="The folder.", exists=True, file_okay=False)],
    store: Annotated[str, typer.Option("--store", help="The vector store, by name or id; made when there is none.")],
    include: Annotated[Globs, typer.Option("--include", help="Only files whose path or name fits; repeatable.")] = None,
    exclude: Annotated[Globs, typer.Option("--exclude", help="No file whose path or name fits; repeatable.")] = None,
    known_as: Annotated[
        str,
        typer.Option(
            "--as",
            help="What this folder is called in the store; its name if unset. What the store has under a name given "
            "here becomes this folder's.",
        ),
    ] = "",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Uploads at once.")] = 4,
    retry: Annotated[bool, typer.Option("--retry", help="Read again what could not be read before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    url: Annotated[str, typer.Option("--url", help="The server's address, for example http://127.0.0.1:8000.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Upload what is new or changed in a folder, wait until it can be searched, and remove what is gone.

    Hidden and empty files are left out, and so are links that lead elsewhere. A second time nothing is done. Ends with
    1 when a file could not be read; each is named with its reason. Another folder's files stay: one of a name that the
    store knows from elsewhere is refused until --as says which it is.
    """
    from server.client import connect
    from server.ingesting import Ingesting, Report

    with connect(url) as api:
        ingesting = Ingesting(api, folder, store, known_as=known_as, jobs=jobs)
        report: Report = ingesting.run(include=include or (), exclude=exclude or (), retry=retry, dry_run=dry_run)
    for path, why in report.failed.items():
        typer.echo(f"failed: {printable(path)}: {printable(why)}", err=True)
    if as_json:
        print_json(report.as_object())
    else:
        for mark, paths in (("+", report.added), ("~", report.changed), ("-", report.removed)):
            for path in paths if dry_run else ():
                typer.echo(f"{mark} {printable(path)}")
        typer.echo(f"{store}: {report.in_words(planned=dry_run)}")
    if report.failed:
        raise typer.Exit(1)
