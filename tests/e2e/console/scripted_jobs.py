"""Fine-tuning jobs by script: what the API would answer, put between a page and its server, so that nothing trains."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from adapters.training.job import Checkpoint, Event, Job, JobFile
from adapters.training.method import Method
from adapters.training.metrics_csv import COLUMNS
from server.routes.lists import listed

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

N_STEPS = 120
PATH = re.compile(r"/v1/fine_tuning/jobs(?:/(?P<id>[^/]+)(?:/(?P<what>\w+))?)?$")
EVALUATION = {
    "base": {"n": 40, "loss": 2.41, "perplexity": 11.1, "token_accuracy": 0.5, "exact_match": 0.05, "accuracy": 0.2},
    "adapter": {"n": 40, "loss": 0.87, "perplexity": 2.39, "token_accuracy": 0.8, "exact_match": 0.55, "accuracy": 0.2},
}
SETTLED = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.0, "lora": {"r": 8, "alpha": 16.0}}


def a_job(**changes: Any) -> Job:
    """Running, in its middle."""
    file = JobFile(id="file-exemplos", digest="0" * 64, n_examples=160, n_tokens=9000, n_trained_tokens=4100)
    now = time.time()
    job = Job(
        id="ftjob-000000000000000000000001",
        owner="local",
        status="running",
        created_at=now - 95,
        started_at=now - 90,
        estimated_finish=now + 90,
        base_name="demo",
        base_fingerprint="0" * 64,
        model="demo",
        suffix="triagem",
        method=Method(),
        seed=7,
        training=file,
        validation=replace(file, id="file-validacao", n_examples=40),
        step=60,
        n_steps=N_STEPS,
        facts={"hyperparameters": SETTLED},
    )
    return replace(job, **changes)


def done(job: Job) -> Job:
    """The same, ended well."""
    return replace(
        job,
        status="succeeded",
        step=N_STEPS,
        finished_at=time.time(),
        estimated_finish=None,
        trained_tokens=27_000,
        version=f"{job.suffix}@3fa91c0b77d2",
        result_file="file-resultados",
        facts={**job.facts, "evaluation": EVALUATION},
    )


def loss_at(step: int) -> float:
    """A fall with the noise of small batches."""
    return 0.8 + 1.7 * math.exp(-step / 30) + 0.14 * math.sin(step * 12.9898) * math.sin(step * 3.7)


def validation_at(step: int) -> float | None:
    return round(0.95 + 1.5 * math.exp(-step / 32), 4) if step % 20 == 0 else None


@dataclass
class ScriptedJobs:
    """Answers for the jobs that it has, the newest first; Playwright keeps marks in it, so it has no slots.

    `asked` is what the page wanted besides reading.
    """

    jobs: list[Job]
    asked: list[tuple[str, Any]] = field(default_factory=list)
    refusal: dict[str, Any] | None = None  # the error that a new job gets
    n_reads: int = 0

    def over(self, page: Page) -> ScriptedJobs:
        """Stand between this page and its server."""
        page.route(re.compile(r"/v1/fine_tuning/jobs"), self._answer)
        page.route(re.compile(r"/v1/files/file-(exemplos|validacao|resultados)(/content)?$"), self._file)
        return self

    def change(self, at: int = 0, **changes: Any) -> None:
        self.jobs[at] = replace(self.jobs[at], **changes)

    def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        found = PATH.search(url.path)
        assert found is not None, url.path
        if route.request.method == "POST":
            self._post(route, found["id"], found["what"])
            return
        self.n_reads += 1
        job = next((job for job in self.jobs if job.id == found["id"]), None)
        if found["id"] is None:
            route.fulfill(json=listed([job.as_object() for job in self.jobs], has_more=False))
        elif job is None:
            route.fulfill(status=404, json={"error": {"message": f"no fine-tuning job has the id {found['id']!r}"}})
        elif found["what"] == "events":
            route.fulfill(json=_page(_events(job), parse_qs(url.query)))
        elif found["what"] == "checkpoints":
            route.fulfill(json=listed(_checkpoints(job), has_more=False))
        else:
            route.fulfill(json=job.as_object())

    def _post(self, route: Route, job_id: str | None, what: str | None) -> None:
        if job_id is not None and what is not None:
            self.asked.append((what, job_id))
            at = next(at for at, job in enumerate(self.jobs) if job.id == job_id)
            self.change(at, **_steered(self.jobs[at], what))
            route.fulfill(json=self.jobs[at].as_object())
            return
        body = route.request.post_data_json
        self.asked.append(("create", body))
        if self.refusal is not None:
            route.fulfill(status=400, json={"error": self.refusal})
            return
        fresh = {"suffix": body["suffix"], "status": "queued", "step": 0, "n_steps": None, "facts": {}}
        job = a_job(id=f"ftjob-{len(self.jobs) + 1:024}", method=Method.model_validate(body["method"]), **fresh)
        self.jobs.insert(0, job)
        route.fulfill(json=job.as_object())

    def _file(self, route: Route) -> None:
        if route.request.url.endswith("/content"):
            rows = [_row(step) for step in range(1, N_STEPS + 1)]
            route.fulfill(body="\n".join([",".join(COLUMNS), *rows]), content_type="text/csv")
            return
        name = route.request.url.rpartition("/file-")[2]
        route.fulfill(json={"id": f"file-{name}", "object": "file", "filename": f"{name}.jsonl"})


def _steered(job: Job, what: str) -> dict[str, Any]:
    if what == "resume":
        return {"status": "queued" if job.status == "paused" else job.status, "wanted": None}
    if job.status == "running":
        return {"wanted": what}
    return {"status": {"pause": "paused", "cancel": "cancelled"}[what]}


def _row(step: int) -> str:
    validation = validation_at(step)
    told = {"step": step, "train_loss": f"{loss_at(step):.5f}", "valid_loss": "" if validation is None else validation}
    return ",".join(str(told.get(name, "")) for name in COLUMNS)


def _page(events: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
    newest = events[::-1]
    after = query.get("after", [""])[0]
    start = next((at + 1 for at, event in enumerate(newest) if event["id"] == after), 0)
    end = start + int(query.get("limit", ["20"])[0])
    return listed(newest[start:end], has_more=end < len(newest))


def _events(job: Job) -> list[dict[str, Any]]:
    """The oldest first."""
    created = f"Created fine-tuning job {job.id}: 160 examples, 9,000 tokens (4,100 trained), about 3 minutes"
    told = [_event(0, job, created)]
    if job.step:
        told.append(_event(1, job, f"Training started, {job.n_steps} steps in all"))
    for step in range(1, job.step + 1):
        data = {"step": step, "train_loss": loss_at(step), "valid_loss": validation_at(step)}
        data = {name: value for name, value in data.items() if value is not None}
        told.append(_event(1 + step, job, f"Step {step}/{job.n_steps}", type="metrics", data=data))
    if job.wanted:
        told.append(_event(900, job, f"The job will be {job.wanted}d after the step it is at", level="warn"))
    if job.status == "succeeded":
        told.append(_event(999, job, "The job has successfully completed"))
    return told


def _event(number: int, job: Job, message: str, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"level": "info", **more}
    return Event(id=f"ftevent-{number:024}", created_at=job.created_at + number, message=message, **given).as_object()


def _checkpoints(job: Job) -> list[dict[str, Any]]:
    ends = [step for step in (40, 80, 120) if step <= job.step]
    return [
        Checkpoint(
            id=f"ftckpt_{step:024}",
            job_id=job.id,
            created_at=job.created_at + step,
            step=step,
            base_name=job.base_name,
            version=f"{job.suffix}@{step:012x}",
            metrics={"train_loss": loss_at(step), "valid_loss": validation_at(step) or 0.0},
        ).as_object()
        for step in reversed(ends)
    ]
