"""`manyhats jobs`: fine-tuning jobs, over HTTP to a running server, else on the data directory."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import typer

from server.cli_output import moment, print_fields, print_json, print_table
from server.cli_train import check_job, print_evaluation

app = typer.Typer(
    no_args_is_help=True,
    help="Fine-tuning jobs, which `manyhats train` starts.\n\nTalks to a running server as `manyhats adapters` does, "
    "else works on the data directory.",
)

Url = Annotated[str, typer.Option("--url", help="The server's address, for example http://127.0.0.1:8000.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[str, typer.Argument(help="The job's id.")]

JOBS = "/v1/fine_tuning/jobs"


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    url: Url = "",
    as_json: Json = False,
) -> None:
    """Fine-tuning jobs, the newest first."""
    from server.client import connect

    with connect(url) as api:
        found = list(itertools.islice(api.pages(JOBS), limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["id"],
            one["suffix"],
            one["method"]["type"],
            one["status"],
            f"{one['step']}/{one['n_steps']}" if one["n_steps"] else "",
            moment(one["created_at"]),
        )
        for one in found
    ]
    columns = ("id", "adapter", "method", "status", "step", "created")
    print_table(columns, rows, empty="No jobs yet. `manyhats train FILE --name NAME` starts one.")


@app.command()
def show(job_id: JobId, url: Url = "", as_json: Json = False) -> None:
    """One job: how far it is, its settled hyperparameters, its checkpoints and what was measured."""
    from server.client import connect

    path = f"{JOBS}/{check_job(job_id)}"
    with connect(url) as api:
        job = api.call("GET", path)
        checkpoints = [] if as_json else list(api.pages(f"{path}/checkpoints"))
    _print_job(job, as_json=as_json)
    if as_json:
        return
    if checkpoints:
        rows = [
            (
                one["step_number"],
                _loss(one, "train_loss"),
                _loss(one, "full_valid_loss"),
                one["fine_tuned_model_checkpoint"],
            )
            for one in checkpoints
        ]
        print_table(("step", "training", "validation", "checkpoint"), rows, empty="")
    print_evaluation(job.get("evaluation") or {})


@app.command()
def cancel(job_id: JobId, url: Url = "", as_json: Json = False) -> None:
    """End a job for good; what it has trained is not kept."""
    _ask(job_id, "cancel", url, as_json=as_json)


@app.command()
def pause(job_id: JobId, url: Url = "", as_json: Json = False) -> None:
    """Let a job rest after its present step."""
    _ask(job_id, "pause", url, as_json=as_json)


@app.command()
def resume(job_id: JobId, url: Url = "", as_json: Json = False) -> None:
    """Let a paused job go on where it was."""
    _ask(job_id, "resume", url, as_json=as_json)


def _ask(job_id: str, action: str, url: str, *, as_json: bool) -> None:
    from server.client import connect

    with connect(url) as api:
        _print_job(api.call("POST", f"{JOBS}/{check_job(job_id)}/{action}"), as_json=as_json)


def _print_job(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    method = job["method"]["type"]
    print_fields(
        {
            "id": job["id"],
            "status": job["status"],
            "asked for": job.get("wanted"),
            "error": (job["error"] or {}).get("message"),
            "adapter": job["suffix"],
            "trained on": job["model"],
            "method": method,
            "step": f"{job['step']} of {job['n_steps']}" if job["n_steps"] else "",
            "permanent name": job["fine_tuned_model"],
            "publish": job["publish"],
            "seed": job["seed"],
            "training file": job["training_file"],
            "validation file": job["validation_file"],
            "result file": ", ".join(job["result_files"]),
            "created": moment(job["created_at"]),
            "ends about": moment(job["estimated_finish"]) if job["finished_at"] is None else "",
            "ended": moment(job["finished_at"]),
        }
        | job["method"][method]["hyperparameters"]
    )


def _loss(checkpoint: dict[str, Any], name: str) -> str:
    loss = checkpoint["metrics"].get(name)
    return "" if loss is None else f"{loss:.3f}"
