"""`manyhats eval`: how much better an adapter's versions are than the base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from server.cli_output import CommandFailed, print_json
from server.cli_train import print_evaluation

EPILOG = (
    "manyhats eval clinic held-out.jsonl\n\nmanyhats eval clinic@4f1a22 preferences.jsonl --kind dpo --examples 500"
)


def evaluate(
    name: Annotated[str, typer.Argument(help="An adapter, for all of its versions, or one as NAME@DIGEST.")],
    file: Annotated[Path, typer.Argument(help="Examples, as for training.", exists=True, dir_okay=False)],
    kind: Annotated[
        str, typer.Option("--kind", help="What the examples are for: supervised, dpo, continued_pretraining, …")
    ] = "supervised",
    examples: Annotated[int, typer.Option("--examples", min=1, help="Measure at most so many.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the base and an adapter's versions over a file of examples, in a table.

    Loss per token, tokens that the model would have chosen itself, greedy answers that are exactly right (where answers
    are short), and answers of a few labels that are right. Computed here, on the data directory, also while a server
    runs.
    """
    from adapters.training.method import KINDS, Kind
    from server.comparing import compare

    if kind not in KINDS:
        raise CommandFailed(f"--kind {kind!r} is unknown; there are {', '.join(KINDS)}")
    try:
        found = dict(compare(name, file, cast("Kind", kind), most=examples))
    except ValueError as error:  # the base model cannot be read
        raise CommandFailed(str(error)) from error
    if as_json:
        print_json(found)
        return
    print_evaluation(found)
