"""`manyhats worker`: the processes of a server that may also run alone, beside it or where it has none."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Processes that work on a data directory beside its server.")


@app.callback()
def main() -> None:
    """A group of commands, though there is one as yet."""


@app.command(epilog="MANYHATS_TRAINING=false manyhats serve\n\nMANYHATS_TRAINING_DEVICE=cuda manyhats worker train")
def train() -> None:
    """Train the fine-tuning jobs of the data directory until told to stop (Ctrl-C).

    For a server that runs with MANYHATS_TRAINING=false, or as a further worker beside its own. It reads the same
    settings as the server and needs the same data directory; MANYHATS_TRAINING_JOBS, _THREADS and _DEVICE are its own.
    Ended or killed, its jobs go on from their last checkpoints in the next worker.
    """
    from server.training_process import main as run

    raise typer.Exit(run(alone=True))
