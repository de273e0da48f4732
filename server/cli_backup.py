"""`manyhats backup`, `restore` and `migrate-data`: an installation copied, brought back, and moved to PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli_output import CommandFailed, print_json, printable, size

if TYPE_CHECKING:
    from server.storage.backup.manifest import Manifest

BACKUP_EPILOG = (
    'manyhats backup "/var/backups/manyhats-$(date +%F)"\n\n'
    "manyhats backup monday.tar\n\nmanyhats backup --verify monday.tar"
)
RESTORE_EPILOG = "manyhats restore monday.tar --data-dir manyhats-data && manyhats serve"
MOVE_EPILOG = (
    "manyhats migrate-data --to postgresql+psycopg://manyhats@db/manyhats\n\n"
    "MANYHATS_DATABASE_URL=postgresql+psycopg://… manyhats migrate-data --blobs-to s3://bucket/manyhats"
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def backup(
    path: Annotated[Path, typer.Argument(help="The backup: a new folder, or a new file that ends in .tar.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read a backup that is there and say whether it is whole.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the installation as it is at one moment, also while its server runs.

    In it are all rows (keys as their hashes), files, adapters and the data of unfinished fine-tuning jobs; not in it
    are caches, checkpoints and settings. Ends with 1 when something that rows refer to was lost or damaged in the
    installation already; the backup is complete but for that.
    """
    from server import backups
    from server.settings import load_settings

    manifest = backups.verify(path, say=_say) if verify else backups.make(load_settings(), path, say=_say)
    _tell(path, manifest, as_json, "is whole" if verify else "is complete")
    if _tell_losses(manifest.missing, manifest.damaged):
        raise typer.Exit(1)


def restore(
    path: Annotated[Path, typer.Argument(help="The backup: a folder or a .tar file.", exists=True)],
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where to; MANYHATS_DATA_DIR if unset. No installation is there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a backup back where there is no installation: a new data directory, and MANYHATS_DATABASE_URL where set.

    Everything is checked while it is copied. Backups of older versions are brought up to this one. Killed, the same
    command goes on. Search indexes are built anew when the server starts.
    """
    from server import backups
    from server.settings import load_settings

    settings = load_settings()
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    manifest = backups.bring_back(settings, path, say=_say)
    _tell(path, manifest, as_json, f"is restored to {settings.data_dir}")
    _tell_losses(manifest.missing, manifest.damaged)


def migrate_data(
    to: Annotated[
        str, typer.Option("--to", help="Where the rows go: postgresql+psycopg://…; MANYHATS_DATABASE_URL if unset.")
    ] = "",
    blobs_to: Annotated[
        str, typer.Option("--blobs-to", help="Where files and adapters go; they stay in the data directory if unset.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Move an installation from SQLite in its data directory to PostgreSQL. Its server must be stopped.

    Killed, the same command goes on. Every table is compared at the end, by its rows and their digests; until then no
    server starts on the new database. What was moved is left as it is.
    """
    from dataclasses import asdict

    from server import backups
    from server.settings import load_settings

    target = to or os.environ.get("MANYHATS_DATABASE_URL", "")
    if not target:
        raise CommandFailed("say where to: --to postgresql+psycopg://…, or MANYHATS_DATABASE_URL")
    moved = backups.move(load_settings(), target, blobs_to, say=_say)
    if as_json:
        print_json(asdict(moved))
    else:
        n_rows = sum(counted.rows for counted in moved.tables.values())
        typer.echo(f"moved: {n_rows} rows of {len(moved.tables)} tables, the same on both sides")
        if moved.blobs is not None:
            typer.echo(f"moved: {moved.blobs.there} blobs, each compared with its digest")
        typer.echo("Set MANYHATS_DATABASE_URL to the new database, and keep MANYHATS_DATA_DIR as it is.")
    if moved.blobs is not None and _tell_losses(moved.blobs.missing, moved.blobs.damaged):
        raise typer.Exit(1)


def _say(what: str) -> None:
    typer.echo(printable(what), err=True)


def _tell(path: Path, manifest: Manifest, as_json: bool, is_now: str) -> None:
    n_rows = sum(counted.rows for counted in manifest.tables.values())
    if as_json:
        told = {"path": str(path), "moment": manifest.moment, "version": manifest.version, "rows": n_rows}
        lost = {"missing": list(manifest.missing), "damaged": list(manifest.damaged)}
        print_json({**told, "files": manifest.n_parts, "bytes": manifest.n_bytes, **lost})
    else:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.moment))
        typer.echo(
            f"{printable(str(path))} {is_now}: of {at}, {n_rows} rows, {manifest.n_parts} files, "
            f"{size(manifest.n_bytes)}"
        )


def _tell_losses(missing: Sequence[str], damaged: Sequence[str]) -> bool:
    """What the installation had lost before; whether there is any."""
    for name in missing:
        typer.echo(f"missing: {printable(name)}: the installation had lost it already", err=True)
    for name in damaged:
        typer.echo(f"damaged: {printable(name)}: its bytes were not those of its digest already", err=True)
    return bool(missing or damaged)
