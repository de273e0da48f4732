"""The `manyhats` command. Everything heavy is imported by the command that needs it: `--help` is instant."""

from __future__ import annotations

from typing import Annotated

import typer

from server import (
    cli_adapters,
    cli_assistants,
    cli_backup,
    cli_eval,
    cli_files,
    cli_ingest,
    cli_jobs,
    cli_keys,
    cli_serve,
    cli_stores,
    cli_train,
    cli_worker,
)
from server.cli_output import errors_are_told
from server.version import VERSION

app = typer.Typer(
    name="manyhats",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="One frozen base model, many hats: an OpenAI-compatible server that swaps LoRA adapters per request.",
    epilog="`make serve` sets everything up and serves the demo. Settings are MANYHATS_* variables: "
    "`manyhats serve --help` lists them.",
)
app.command("serve", epilog=cli_serve.EPILOG)(cli_serve.serve)
app.add_typer(cli_adapters.app, name="adapters")
app.add_typer(cli_assistants.app, name="assistants")
app.add_typer(cli_files.app, name="files")
app.add_typer(cli_stores.app, name="stores")
app.command("ingest", epilog=cli_ingest.EPILOG)(cli_ingest.ingest)
app.command("train", epilog=cli_train.EPILOG)(cli_train.train)
app.command("eval", epilog=cli_eval.EPILOG)(cli_eval.evaluate)
app.add_typer(cli_jobs.app, name="jobs")
app.add_typer(cli_worker.app, name="worker")
app.add_typer(cli_keys.app, name="keys")
app.command("backup", epilog=cli_backup.BACKUP_EPILOG)(cli_backup.backup)
app.command("restore", epilog=cli_backup.RESTORE_EPILOG)(cli_backup.restore)
app.command("migrate-data", epilog=cli_backup.MOVE_EPILOG)(cli_backup.migrate_data)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(VERSION)
        raise typer.Exit


@app.command()
def doctor(
    load: Annotated[bool, typer.Option("--load", help="Also load the base model's weights and run it once.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What is installed, what is missing, which device, and whether the base model loads.

    Ends with 1 when something that the server needs is missing.
    """
    from server.doctor import examine, report

    findings = examine(load=load)
    report(findings, as_json=as_json)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """The console script."""
    with errors_are_told():
        app(prog_name="manyhats")
