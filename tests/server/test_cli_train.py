"""`manyhats train` and `jobs` over the real routes on a data directory; what trains is a script that plays its part."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters.training.job import Checkpoint, Event
from adapters.training.jobs import Jobs, new_checkpoint_id, new_event_id
from server.cli import main
from server.client import Api
from server.following import Losses, remaining
from server.settings import load_settings
from server.storage import feed
from server.storage.database import Database
from tests.retrieval.tiny_embedder import make_embedder

Manyhats = Callable[..., str]

HOLDER = "a script"
VERSION = "triagem@3fa91c0b77d2"
EVALUATION = {
    "base": {"n": 24, "loss": 4.1, "perplexity": 60.3, "token_accuracy": 0.31, "exact_match": 0.0, "accuracy": 0.25},
    "adapter": {"n": 24, "loss": 0.2, "perplexity": 1.2, "token_accuracy": 0.97, "exact_match": 0.92, "accuracy": None},
}
DEPARTMENTS = ("agendamento", "exames", "financeiro")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def manyhats(
    tmp_path: Path, embedder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Manyhats:
    """Run the command on a data directory of its own: what it wrote to stdout, or to both where it must fail."""
    for name in list(os.environ):
        if name.startswith("MANYHATS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MANYHATS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MANYHATS_EMBEDDER", str(embedder))

    def run(*words: object, status: int = 0, both: bool = False, terminal: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["manyhats", *map(str, words)])
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert (ended.value.code or 0) == status, written.out + written.err
        return written.out + written.err if both or status else written.out

    return run


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    path = tmp_path / "triagem.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"Mensagem {n}: é urgente?"}, {"role": "assistant", "content": d}]}
        for n in range(4)
        for d in DEPARTMENTS
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


class Script:
    """What the training process would do, a part of it each time that the command waits; it ends the job."""

    def __init__(self, *acts: Callable[[Jobs, str], object]) -> None:
        self.acts = list(acts)
        self.job_id = ""

    def __call__(self, api: Api, seconds: float) -> None:
        database = Database(load_settings().sql_url)
        try:
            jobs = Jobs(database, on_write=partial(feed.bump, topic="training"))
            if not self.job_id:
                job = jobs.claim(HOLDER)
                assert job is not None
                self.job_id = job.id
                return
            assert self.acts, "the command waits for a job that has ended"
            self.acts.pop(0)(jobs, self.job_id)
        finally:
            database.close()


def begin(jobs: Jobs, job_id: str) -> None:
    jobs.began(job_id, HOLDER, 3, {"hyperparameters": {"n_epochs": 3, "batch_size": 4}})


def step(number: int, train_loss: float, valid_loss: float | None = None) -> Callable[[Jobs, str], object]:
    data = {"step": number, "train_loss": train_loss, "valid_loss": valid_loss}
    event = Event(
        id=new_event_id(), created_at=1.0, level="info", message=f"Step {number}/3", type="metrics", data=data
    )
    return lambda jobs, job_id: jobs.progress(job_id, HOLDER, number, 100 * number, None, event)


def succeed(jobs: Jobs, job_id: str) -> None:
    jobs.add_checkpoint(
        Checkpoint(
            id=new_checkpoint_id(),
            job_id=job_id,
            created_at=1.0,
            step=3,
            base_name="demo",
            version=VERSION,
            metrics={"train_loss": 0.25, "full_valid_loss": 0.375},
        )
    )
    jobs.succeed(job_id, HOLDER, VERSION, None, 300, {"evaluation": EVALUATION})


def fail(jobs: Jobs, job_id: str) -> None:
    jobs.fail(job_id, HOLDER, "out_of_memory", 'the base does not fit; take "quantization": "nf4"')


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    """Have the next job trained by these acts."""

    def by(*acts: Callable[[Jobs, str], object]) -> Script:
        script = Script(*acts)
        monkeypatch.setattr(Api, "train", lambda api, seconds: script(api, seconds))
        return script

    return by


def test_from_a_file_to_an_adapter(manyhats: Manyhats, examples: Path, trains: Callable[..., Script]) -> None:
    script = trains(begin, step(1, 4.0), step(2, 2.0, 2.5), step(3, 1.0), succeed)
    written = manyhats("train", examples, "--name", "triagem", "--validation", examples, both=True)
    assert not script.acts
    assert f"ft:demo::{VERSION.replace('@', ':')} is this version's permanent name" in written
    assert "Training started, 3 steps in all" in written
    assert "Step 1/3" not in written  # numbers are for the bar
    (base,) = (line.split() for line in written.splitlines() if line.startswith(" base "))
    (adapter,) = (line.split() for line in written.splitlines() if line.startswith(" adapter "))
    assert base == ["base", "4.100", "31.0%", "0.0%", "25.0%", "24"]
    assert adapter == ["adapter", "0.200", "97.0%", "92.0%", "24"]  # no accuracy was measured


def test_on_a_terminal_the_loss_is_drawn(manyhats: Manyhats, examples: Path, trains: Callable[..., Script]) -> None:
    trains(begin, step(1, 4.0), step(2, 2.0, 2.5), step(3, 1.0), succeed)
    written = manyhats("train", examples, "--name", "triagem", terminal=True)
    assert "training, last 1 " in written
    assert "validation, last 2.5" in written
    assert "step 1" in written


def test_elsewhere_it_is_not(manyhats: Manyhats, examples: Path, trains: Callable[..., Script]) -> None:
    trains(begin, step(1, 4.0), step(2, 2.0), succeed)
    assert "training, last" not in manyhats("train", examples, "--name", "triagem", both=True)


def test_for_programs_there_is_json_alone(manyhats: Manyhats, examples: Path, trains: Callable[..., Script]) -> None:
    trains(begin, step(1, 4.0), step(2, 2.0), succeed)
    job = json.loads(manyhats("train", examples, "--name", "triagem", "--json", both=True, terminal=True))
    assert job["status"] == "succeeded"
    assert job["evaluation"] == EVALUATION


def test_options_become_the_method(manyhats: Manyhats, examples: Path) -> None:
    words = "--epochs 5 --batch-size 2 --learning-rate-multiplier 0.5 --rank 8 --alpha 24 --nf4 --seed 7"
    told = manyhats("train", examples, "--name", "triagem", *words.split(), "--publish", "never", "--no-wait", "--json")
    job = json.loads(told)
    settled = job["method"]["supervised"]["hyperparameters"]
    assert (settled["n_epochs"], settled["batch_size"], settled["learning_rate_multiplier"]) == (5, 2, 0.5)
    assert (settled["lora"]["r"], settled["lora"]["alpha"], settled["quantization"]) == (8, 24.0, "nf4")
    assert (job["seed"], job["publish"], job["suffix"], job["model"]) == (7, "never", "triagem", "demo")
    assert job["status"] == "queued"


def test_what_is_not_given_is_left_to_the_server(manyhats: Manyhats, examples: Path) -> None:
    job = json.loads(manyhats("train", examples, "--name", "triagem", "--no-wait", "--json"))
    assert job["method"]["supervised"]["hyperparameters"]["n_epochs"] == "auto"


def test_a_job_of_one_s_own_is_followed_later(
    manyhats: Manyhats, examples: Path, trains: Callable[..., Script]
) -> None:
    said = manyhats("train", examples, "--name", "triagem", "--no-wait")
    job_id = said.split()[0]
    assert f"`manyhats train --follow {job_id}`" in said
    trains(begin, step(1, 4.0), succeed)
    assert "triagem is trained" in manyhats("train", "--follow", job_id)


def test_a_failed_job_ends_the_command_with_1(
    manyhats: Manyhats, examples: Path, trains: Callable[..., Script]
) -> None:
    trains(begin, fail)
    written = manyhats("train", examples, "--name", "triagem", status=1)
    assert "Error: the base does not fit" in written


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(
    manyhats: Manyhats, examples: Path, trains: Callable[..., Script]
) -> None:
    def interrupt(jobs: Jobs, job_id: str) -> None:
        raise KeyboardInterrupt

    script = trains(begin, interrupt)
    written = manyhats("train", examples, "--name", "triagem", status=130)
    assert f"manyhats jobs cancel {script.job_id}" in written
    assert json.loads(manyhats("jobs", "show", script.job_id, "--json"))["status"] == "running"


def test_bad_data_is_told_with_its_line_and_leaves_no_file(manyhats: Manyhats, examples: Path) -> None:
    with examples.open("a") as file:
        file.write('{"messages": "olá"}\n')
    assert "line 13" in manyhats("train", examples, "--name", "triagem", status=1)
    assert json.loads(manyhats("files", "list", "--json")) == []
    assert "No jobs yet" in manyhats("jobs", "list")


def test_jobs_are_listed_shown_and_steered(manyhats: Manyhats, examples: Path) -> None:
    job_id = manyhats("train", examples, "--name", "triagem", "--no-wait").split()[0]
    (row,) = (line.split() for line in manyhats("jobs", "list").splitlines() if line.startswith(" ftjob-"))
    assert row[:4] == [job_id, "triagem", "supervised", "queued"]
    assert "paused" in manyhats("jobs", "pause", job_id)
    assert "queued" in manyhats("jobs", "resume", job_id)
    assert json.loads(manyhats("jobs", "cancel", job_id, "--json"))["status"] == "cancelled"
    assert "cannot be resumed" in manyhats("jobs", "resume", job_id, status=1)


def test_a_paused_job_is_not_waited_for(manyhats: Manyhats, examples: Path) -> None:
    job_id = manyhats("train", examples, "--name", "triagem", "--no-wait").split()[0]
    manyhats("jobs", "pause", job_id)
    assert f"manyhats jobs resume {job_id}" in manyhats("train", "--follow", job_id)


def test_a_job_s_page_has_its_checkpoints_and_figures(
    manyhats: Manyhats, examples: Path, trains: Callable[..., Script]
) -> None:
    script = trains(begin, step(1, 4.0), succeed)
    manyhats("train", examples, "--name", "triagem")
    written = manyhats("jobs", "show", script.job_id)
    assert "n_epochs" in written
    assert f"ft:demo::{VERSION.replace('@', ':')}" in written
    assert "0.250" in written
    assert "0.375" in written
    assert "97.0%" in written


def test_a_list_stops_where_it_is_told(manyhats: Manyhats, examples: Path) -> None:
    for _ in range(3):
        manyhats("train", examples, "--name", "triagem", "--no-wait")
    assert len(json.loads(manyhats("jobs", "list", "-n", "2", "--json"))) == 2
    assert len(json.loads(manyhats("jobs", "list", "--json"))) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give a file of examples"),
        (("FILE",), "--name"),
        (("FILE", "--follow", "ftjob-1", "--name", "x"), "or a job with --follow"),
        (("--follow", "../files"), "is no job"),
        (("--follow", "ftjob-0000"), "ftjob-0000"),
        (("FILE", "--name", "a b", "--no-wait"), "a b"),
        (("FILE", "--name", "x", "--method", "magic"), "magic"),
    ],
)
def test_mistakes(manyhats: Manyhats, examples: Path, words: tuple[str, ...], said: str) -> None:
    given = [str(examples) if word == "FILE" else word for word in words]
    assert said in manyhats("train", *given, status=1)
    assert json.loads(manyhats("files", "list", "--json")) == []


def test_no_server_at_the_address(manyhats: Manyhats, examples: Path) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert "no server answers" in manyhats("train", examples, "--name", "x", "--url", address, status=1)


def test_losses_of_a_result_file() -> None:
    content = b"step,train_loss,train_accuracy,valid_loss\n1,3.5,0.1,\n2,2.5,0.2,3.0\n"
    assert Losses.of_csv(content).points() == ([(1, 3.5), (2, 2.5)], [(2, 3.0)])


def test_a_step_that_was_trained_again_counts_once() -> None:
    losses = Losses()
    for number, loss in ((1, 3.0), (2, 2.9), (2, 2.0), (None, 1.0)):
        losses.take(number, loss, None)
    assert losses.points() == ([(1, 3.0), (2, 2.0)], [])


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "0:05 left"), (65.4, "1:05 left"), (3600, "1:00:00 left"), (-3, "0:00 left")]
)
def test_what_remains(seconds: float, said: str) -> None:
    job: dict[str, Any] = {"status": "running", "estimated_finish": 1000 + seconds}
    assert remaining(job, 1000) == said
    assert remaining({**job, "status": "queued"}, 1000) == ""
    assert remaining({**job, "estimated_finish": None}, 1000) == ""
