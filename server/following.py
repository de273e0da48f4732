"""A fine-tuning job looked at from the command line until it ends: its events, a bar, and what its numbers draw."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from server.cli_output import printable
from server.client import Api
from server.loss_curve import Points

POLL_SECONDS = 0.5
EVENTS = 100  # of a page
OVER = {"succeeded", "failed", "cancelled"}

Show = Callable[[dict[str, Any], "Losses"], None]
Say = Callable[[str], None]


@dataclass(slots=True)
class Losses:
    """What the steps said, in their order; a step that was trained again after a death counts once."""

    training: dict[int, float] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)

    def take(self, step: object, train_loss: object, valid_loss: object) -> None:
        """Numbers as an event or a row of the result file has them; what is none is left out."""
        number = _number(step)
        if number is None:
            return
        for losses, loss in ((self.training, _number(train_loss)), (self.validation, _number(valid_loss))):
            if loss is not None:
                losses[int(number)] = loss

    def points(self) -> tuple[Points, Points]:
        """Of training and of validation."""
        return sorted(self.training.items()), sorted(self.validation.items())

    @classmethod
    def of_csv(cls, content: bytes) -> Losses:
        """From a job's result file: https://platform.openai.com/docs/guides/fine-tuning"""
        losses = cls()
        for row in csv.DictReader(io.StringIO(content.decode())):
            losses.take(row.get("step"), row.get("train_loss"), row.get("valid_loss"))
        return losses


class Following:
    """One job. Calls to the API only; where no server runs, they also let it be trained."""

    def __init__(self, api: Api, job_id: str) -> None:
        self._api = api
        self._path = f"/v1/fine_tuning/jobs/{job_id}"
        self._seen: set[str] = set()
        self._losses = Losses()

    def run(self, *, quiet: bool = False) -> dict[str, Any]:
        """The job when it is over or paused. Its messages go to stderr, unless it shall be quiet; so does the bar.

        Raises CommandFailed when the server refuses or cannot be reached.
        """
        with _progress(quiet=quiet) as (show, say):
            while True:
                job = self._api.call("GET", self._path)  # before its events: none of one that is over is missed
                for event in self._new_events():
                    self._take(event, say)
                show(job, self._losses)
                if job["status"] in OVER or job["status"] == "paused":
                    return job
                self._api.train(POLL_SECONDS)

    def losses(self, job: dict[str, Any]) -> Losses:
        """Of every step where there is a result file, else of those that events told."""
        for file_id in job["result_files"]:
            return Losses.of_csv(self._api.content(f"/v1/files/{file_id}/content"))
        return self._losses

    def _new_events(self) -> list[dict[str, Any]]:
        """Those that were not there before, the oldest first."""
        found = []
        for event in self._api.pages(f"{self._path}/events", limit=EVENTS):
            if event["id"] in self._seen:
                break
            found.append(event)
        self._seen |= {event["id"] for event in found}
        return found[::-1]

    def _take(self, event: dict[str, Any], say: Say) -> None:
        if event["type"] == "metrics":
            data = event["data"]
            self._losses.take(data.get("step"), data.get("train_loss"), data.get("valid_loss"))
            return
        mark = "" if event["level"] == "info" else f"{event['level']}: "
        say(f"{time.strftime('%H:%M:%S', time.localtime(event['created_at']))}  {mark}{printable(event['message'])}")


def remaining(job: dict[str, Any], now: float) -> str:
    """`1:05 left`, or "" where nobody knows."""
    if job["estimated_finish"] is None or job["status"] != "running":
        return ""
    minutes, seconds = divmod(max(0, round(job["estimated_finish"] - now)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]  # what is no number is the other case
    except (TypeError, ValueError):
        return None


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Show, Say]]:
    """A bar on a terminal, with the messages above it; elsewhere the messages alone."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, markup=False, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
    disabled = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=disabled, transient=True) as progress:
        bar = progress.add_task("waiting", total=None, facts="")

        def show(job: dict[str, Any], losses: Losses) -> None:
            last = next(reversed(losses.training.values()), None)
            told = [f"step {job['step']}/{job['n_steps']}" if job["n_steps"] else "", remaining(job, time.time())]
            told.insert(1, f"loss {last:.3g}" if last is not None else "")
            progress.update(
                bar,
                description=job["status"],
                total=job["n_steps"],
                completed=job["step"],
                facts="  ".join(filter(None, told)),
            )

        def say(line: str) -> None:
            if not quiet:
                console.print(line, soft_wrap=True)

        yield show, say
