"""Fine-tuning through OpenAI's client: real training on the demo base, beside the engine that then serves it."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

LONGEST_SECONDS = 240  # what one job may take; ten times what it does on an idle machine
LOOK_SECONDS = 0.2
OVER = {"succeeded", "failed", "cancelled"}

DEPARTMENTS = {"Quero marcar uma consulta.": "agendamento", "Meu exame ficou pronto?": "exames"}
NAME = "triagem-e2e"


def line(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


EXAMPLES = "".join(line(*pair) for pair in DEPARTMENTS.items()) * 10


def question(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.fixture
def uploaded(client: openai.OpenAI) -> Iterator[Callable[[str], str]]:
    """Upload a text for training; the file goes after the test."""
    made: list[str] = []

    def upload(text: str) -> str:
        made.append(client.files.create(file=("exemplos.jsonl", text.encode()), purpose="fine-tune").id)
        return made[-1]

    yield upload
    for file_id in made:
        with suppress(openai.NotFoundError):  # the test has deleted it
            client.files.delete(file_id)


def method(n_epochs: int) -> Any:
    return {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": n_epochs, "batch_size": 4}}}


def until(client: openai.OpenAI, job_id: str, is_so: Callable[[FineTuningJob], bool]) -> FineTuningJob:
    """The job as soon as it is so; whatever ends it ends the waiting."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if is_so(job) or job.status in OVER:
            return job
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"after {LONGEST_SECONDS} s the job is {job.status}: {job}")


def step(job: FineTuningJob) -> int:
    assert job.model_extra is not None
    return int(job.model_extra["step"])


@pytest.fixture
def tidy(http: httpx2.Client) -> Iterator[None]:
    yield
    http.delete(f"/v1/adapters/{NAME}")


def test_from_a_file_to_an_answer(
    client: openai.OpenAI, uploaded: Callable[[str], str], http: httpx2.Client, tidy: None
) -> None:
    training = uploaded(EXAMPLES)
    validation = uploaded(EXAMPLES[: len(EXAMPLES) // 5])
    created = client.fine_tuning.jobs.create(
        model="demo",
        training_file=training,
        validation_file=validation,
        suffix=NAME,
        seed=7,
        metadata={"team": "recepção"},
        method=method(6),
    )
    assert created.status in ("queued", "running")
    assert created.id in [job.id for job in client.fine_tuning.jobs.list()]
    client.files.delete(training)  # the job has its own copy
    job = until(client, created.id, lambda job: job.status in OVER)
    assert job.status == "succeeded", job.error
    assert job.metadata == {"team": "recepção"}
    assert job.trained_tokens is not None
    assert job.trained_tokens > 0
    assert job.method is not None
    assert job.method.supervised is not None
    assert job.method.supervised.hyperparameters is not None
    assert job.method.supervised.hyperparameters.n_epochs == 6

    events = list(client.fine_tuning.jobs.list_events(job.id, limit=10))
    assert "20 examples" in events[-1].message
    losses = [event.data["train_loss"] for event in events if event.type == "metrics"]  # type: ignore[index]  # theirs have it
    assert losses[0] < losses[-1]  # the newest is first
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert checkpoints[0].step_number == step(job)
    assert checkpoints[0].fine_tuned_model_checkpoint == job.fine_tuned_model
    (result,) = job.result_files
    rows = list(csv.DictReader(io.StringIO(client.files.content(result).text)))
    assert [int(row["step"]) for row in rows] == list(range(1, step(job) + 1))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    client.files.delete(result)

    evaluation = job.model_extra["evaluation"]  # type: ignore[index]  # ours
    assert evaluation["adapter"]["loss"] < evaluation["base"]["loss"]
    assert evaluation["adapter"]["exact_match"] > evaluation["base"]["exact_match"]
    assert job.fine_tuned_model is not None
    for model in (NAME, job.fine_tuned_model):
        for asked, department in DEPARTMENTS.items():
            answer = client.chat.completions.create(model=model, messages=question(asked), temperature=0, max_tokens=20)
            assert answer.choices[0].message.content == department
            assert answer.model == model
    assert NAME in [model["id"] for model in http.get("/v1/models").json()["data"]]


def test_pause_resume_and_cancel(client: openai.OpenAI, uploaded: Callable[[str], str], tidy: None) -> None:
    created = client.fine_tuning.jobs.create(
        model="demo", training_file=uploaded(EXAMPLES), suffix=NAME, method=method(1000)
    )
    until(client, created.id, lambda job: step(job) > 0)
    client.fine_tuning.jobs.pause(created.id)
    paused = until(client, created.id, lambda job: job.status == "paused")
    assert paused.status == "paused"
    client.fine_tuning.jobs.resume(created.id)
    further = until(client, created.id, lambda job: step(job) > step(paused))
    assert further.status == "running"
    client.fine_tuning.jobs.cancel(created.id)
    cancelled = until(client, created.id, lambda job: job.status in OVER)
    assert cancelled.status == "cancelled"
    assert cancelled.fine_tuned_model is None
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        client.fine_tuning.jobs.resume(created.id)


def test_bad_data_is_refused_with_its_line(client: openai.OpenAI, uploaded: Callable[[str], str]) -> None:
    for wrong, line_number in (('{"messages": "olá"}\n', 21), ('{"messages": [{"role": "user"}]}\n', 21)):
        with pytest.raises(openai.BadRequestError) as refused:
            client.fine_tuning.jobs.create(model="demo", training_file=uploaded(EXAMPLES + wrong), suffix=NAME)
        assert f"line {line_number}" in refused.value.message
        assert refused.value.param == "training_file"
        assert refused.value.code


def test_a_file_for_something_else_is_refused(client: openai.OpenAI) -> None:
    file = client.files.create(file=("exemplos.jsonl", EXAMPLES.encode()), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="fine-tune"):
        client.fine_tuning.jobs.create(model="demo", training_file=file.id, suffix=NAME)
    client.files.delete(file.id)
