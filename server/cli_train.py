"""`manyhats train`: from a file of examples to an adapter that is served."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli_files import check_name
from server.cli_output import CommandFailed, print_json, print_table

if TYPE_CHECKING:
    from server.client import Api
    from server.following import Losses

EPILOG = (
    "manyhats train examples.jsonl --name clinic --validation held-out.jsonl\n\n"
    "manyhats train examples.jsonl --name clinic --epochs 5 --rank 32 --nf4 --no-wait\n\n"
    "manyhats train --follow ftjob-4f1a22c09b3d"
)
INTERRUPTED = 130  # what a shell gives a command that was ended by Ctrl-C

METRICS = {"loss": ".3f", "token_accuracy": ".1%", "exact_match": ".1%", "accuracy": ".1%"}


def train(
    file: Annotated[
        Path | None, typer.Argument(help="Examples, one JSON object on each line.", exists=True, dir_okay=False)
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The adapter's name; a further version where it is taken.")] = "",
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Examples to measure by, in the same form.", dir_okay=False)
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="supervised, dpo, continued_pretraining or prompt_tuning.")
    ] = "supervised",
    model: Annotated[
        str, typer.Option("--model", help="What to train on: the base, or an adapter to go on from.")
    ] = "",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the examples; chosen if unset.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Examples of one step; chosen if unset.")
    ] = None,
    multiplier: Annotated[
        float | None, typer.Option("--learning-rate-multiplier", help="Of the method's usual rate; chosen if unset.")
    ] = None,
    rank: Annotated[int | None, typer.Option("--rank", help="The adapter's rank; 16 if unset.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Its scale; twice the rank if unset.")] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="DPO's; chosen if unset.")] = None,
    virtual_tokens: Annotated[
        int | None, typer.Option("--virtual-tokens", help="Length of a soft prompt; chosen if unset.")
    ] = None,
    nf4: Annotated[bool, typer.Option("--nf4", help="Hold the base in 4 bits while training (QLoRA).")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the order and the first weights.")] = None,
    publish: Annotated[
        str, typer.Option("--publish", help="Whether the name moves to the new version: always, if_better, never.")
    ] = "always",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job, or only start it.")] = True,
    follow: Annotated[str, typer.Option("--follow", help="Follow this job, which is there already.")] = "",
    url: Annotated[str, typer.Option("--url", help="The server's address, for example http://127.0.0.1:8000.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
) -> None:
    """Train an adapter on a file of examples: upload, start a job, follow it, draw its loss.

    Where a server runs, it trains, and Ctrl-C leaves it at it; where none runs, this command does. Ends with 1 when
    the job fails or is cancelled.
    """
    from server.client import connect

    if bool(follow) == bool(file):
        raise CommandFailed("give a file of examples with --name NAME, or a job with --follow JOB")
    if file is not None and not name:
        raise CommandFailed("--name says what clients shall write as `model`")
    asked: dict[str, Any] = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": multiplier}
    asked |= {"beta": beta, "n_virtual_tokens": virtual_tokens, "quantization": "nf4" if nf4 else None}
    asked["lora"] = {key: value for key, value in (("r", rank), ("alpha", alpha)) if value is not None} or None
    hyperparameters = {key: value for key, value in asked.items() if value is not None}
    body: dict[str, Any] = {
        "suffix": name,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "publish": publish,
    }
    body |= {"model": model} if model else {}
    body |= {"seed": seed} if seed is not None else {}
    with connect(url) as api:
        if file is not None:
            job = _started(api, body, file, validation)
            follow = job["id"]
            if not wait:
                _tell_started(api, job, as_json=as_json)
                return
        _follow(api, follow, as_json=as_json)


def check_job(job_id: str) -> str:
    """A job's id as part of a path. Raises CommandFailed for what would be another path."""
    if not job_id.startswith("ftjob-"):
        raise CommandFailed(f"{job_id!r} is no job; `manyhats jobs list` names them")
    return check_name(job_id)


def _started(api: Api, body: dict[str, Any], file: Path, validation: Path | None) -> dict[str, Any]:
    """The new job. What was uploaded for one that is refused is taken back."""
    made: list[str] = []
    try:
        for field, path in (("training_file", file), ("validation_file", validation)):
            if path is not None:
                made.append(api.call("POST", "/v1/files", form={"purpose": "fine-tune"}, file=path)["id"])
                body[field] = made[-1]
        body.setdefault("model", _base(api))
        return api.call("POST", "/v1/fine_tuning/jobs", json=body)
    except BaseException:
        for file_id in made:
            api.call("DELETE", f"/v1/files/{file_id}")
        raise


def _base(api: Api) -> str:
    for model in api.call("GET", "/v1/models")["data"]:
        if model["type"] == "base":
            return str(model["id"])
    raise CommandFailed("this key may not use the base model; name what to train on with --model")


def _tell_started(api: Api, job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    typer.echo(f"{job['id']} is {job['status']}; {_how_to_go_on(job['id'], is_local=api.is_local)}")


def _how_to_go_on(job_id: str, *, is_local: bool) -> str:
    trains = "it is trained when a server runs, or by" if is_local else "follow it by"
    return f"{trains} `manyhats train --follow {job_id}`, end it by `manyhats jobs cancel {job_id}`"


def _follow(api: Api, job_id: str, *, as_json: bool) -> None:
    from server.following import Following

    following = Following(api, check_job(job_id))
    try:
        job = following.run(quiet=as_json)
    except KeyboardInterrupt:
        left = "the job waits" if api.is_local else "the job goes on"
        typer.echo(f"\n{left}; {_how_to_go_on(job_id, is_local=api.is_local)}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(job)
    else:
        _report(job, following.losses(job))
    if job["status"] in ("failed", "cancelled"):
        raise typer.Exit(1)


def _report(job: dict[str, Any], losses: Losses) -> None:
    from server.loss_curve import loss_curve

    if sys.stdout.isatty() and (curve := loss_curve(*losses.points())):
        typer.echo(f"{curve}\n")
    print_evaluation(job.get("evaluation") or {})
    if job["status"] == "succeeded":
        typer.echo(f"{job['suffix']} is trained: {job['fine_tuned_model']} is this version's permanent name.")
    elif job["status"] == "paused":
        typer.echo(f"{job['id']} is paused at step {job['step']}; `manyhats jobs resume {job['id']}` goes on.")
    else:
        why = (job["error"] or {}).get("message") or f"the job was {job['status']}"
        typer.echo(f"Error: {why}", err=True)


def print_evaluation(evaluation: dict[str, Any]) -> None:
    """A row for the base and one for each version: what was measured, and over how many examples."""
    rows = [
        (name, *(_shown(found.get(metric), form) for metric, form in METRICS.items()), found.get("n"))
        for name, found in evaluation.items()
    ]
    if rows:
        print_table(("", "loss", "tokens right", "exact match", "accuracy", "examples"), rows, empty="")


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
