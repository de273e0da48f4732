"""A job's process, with training that a test scripts: what it says of the job, and what it leaves behind."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.training.errors import DataInvalid, JobInvalid
from adapters.training.evaluation import Evaluation
from adapters.training.job import Job
from adapters.training.plan import Plan
from adapters.training.train import Asked, Interrupted, Order, Step, Trained
from retrieval.file import RESULTS
from server import idle_thread
from server.storage.database import Database
from server.storage.errors import DatabaseUnavailable
from server.training_job import EXIT_AGAIN, Heavy, JobProcess
from server.training_publication import Publication
from tests.server.conftest import BASE
from tests.server.job_desk import JobDesk, clinic_chats

Make = Callable[..., Path]
Tell = Callable[[Step], Asked]

N_STEPS = 4
HOLDER = "w-1"


def step(number: int, *, valid_loss: float | None = None, is_kept: bool = False, train_loss: float = 2.0) -> Step:
    return Step(
        number=number,
        n_steps=N_STEPS,
        epoch=number / 2,
        train_loss=train_loss / number,
        train_mean_token_accuracy=0.5,
        valid_loss=valid_loss,
        valid_mean_token_accuracy=None,
        learning_rate=1e-3,
        n_tokens=100 * number,
        is_kept=is_kept,
    )


class Script:
    """Stands in for the trainer and for evaluation; a test says what happens, and reads what was asked for."""

    def __init__(self, make_adapter: Make) -> None:
        self.make_adapter = make_adapter
        self.seeds = [1, 2]  # of the two epochs' weights; the last one's are what comes of the job
        self.losses: dict[str, float] = {"base": 3.0, "adapter": 1.0}
        self.raises: Exception | None = None
        self.train_loss = 2.0
        self.orders: list[Order] = []
        self.at_step: Callable[[int], None] = lambda number: None
        self.evaluated: list[Path] = []
        self.threads: list[str] = []
        self._n_made = 0

    def train(self, order: Order, work: Path, tell: Tell) -> Trained:
        self.orders.append(order)
        self.threads.append(threading.current_thread().name)
        work.mkdir(parents=True, exist_ok=True)
        if self.raises is not None:
            raise self.raises
        steps = [
            step(number, is_kept=number == 2, valid_loss=1.5 if number == N_STEPS else None, train_loss=self.train_loss)
            for number in range(1, N_STEPS + 1)
        ]
        for one in steps:
            self.at_step(one.number)
            asked = tell(one)
            if asked != "go":
                raise Interrupted(asked)
        folders = [self._folder(work / str(number), seed) for number, seed in zip((2, 4), self.seeds, strict=True)]
        return Trained(
            folder=folders[-1],
            plan=Plan(
                kind="supervised",
                n_epochs=2,
                batch_size=1,
                learning_rate_multiplier=1.0,
                learning_rate=1e-3,
                n_steps=N_STEPS,
            ),
            steps=steps,
            epochs=[(2, folders[0], {"train_loss": 1.0}), (4, folders[1], {"train_loss": 0.5})],
            n_tokens=400,
            facts={"seconds": 2.5, "peak_memory_bytes": 10**8},
        )

    def evaluate_both(self, base: Path, adapter: Path, *_: Any, **__: Any) -> dict[str, Any]:
        return {name: {"loss": loss, "n": 3} for name, loss in self.losses.items()}

    def evaluate(self, base: Path, adapter: Path, *_: Any, **__: Any) -> Evaluation:
        self.evaluated.append(adapter)
        loss = self.losses["current"]
        return Evaluation(n=3, loss=loss, perplexity=1.0, token_accuracy=0.5, exact_match=None, accuracy=None)

    @property
    def heavy(self) -> Heavy:
        return Heavy(
            train=self.train,
            evaluate=self.evaluate,
            evaluate_both=self.evaluate_both,
            quiet=lambda work: nullcontext(),
        )

    def _folder(self, folder: Path, seed: int) -> Path:
        if not folder.exists():
            self._n_made += 1
            made = self.make_adapter(f"trained-{self._n_made}", seed=seed)
            shutil.copytree(made, folder)
        return folder


@pytest.fixture(autouse=True)
def _awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is idle gets little of a busy machine."""
    monkeypatch.setattr(idle_thread, "become_idle", lambda: None)


@pytest.fixture
def script(make_adapter: Make) -> Script:
    return Script(make_adapter)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    (folder / "config.json").write_text(json.dumps(BASE))
    return folder


@pytest.fixture
def desk(tmp_path: Path, migrated: Path, base_folder: Path) -> Iterator[JobDesk]:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copyfile(migrated, data / "manyhats.db")
    with closing(Database(f"sqlite:///{data / 'manyhats.db'}")) as database:
        yield JobDesk(data, database, base_folder, model_name="tiny")


class Runs:
    """Claims and works on jobs, as the worker and its process do."""

    def __init__(self, desk: JobDesk, script: Script) -> None:
        self.desk = desk
        self.script = script
        self.stop = threading.Event()

    def __call__(self, job: Job) -> Job:
        assert self.status(job) == 0
        return self.desk.job(job)

    def status(self, job: Job) -> int:
        claimed = self.desk.jobs.claim(HOLDER)
        assert claimed is not None
        assert claimed.id == job.id
        process = JobProcess(self.desk.settings, self.desk.database, HOLDER, stop=self.stop, heavy=self.script.heavy)
        return process.run(job.id)


@pytest.fixture
def run(desk: JobDesk, script: Script) -> Runs:
    return Runs(desk, script)


def test_a_job_becomes_a_version_that_its_name_means(desk: JobDesk, run: Runs, script: Script) -> None:
    job = run(desk.make(validation=clinic_chats()[:4], metadata={"a": "b"}))
    assert job.status == "succeeded"
    registry = desk.registry()
    adapter = registry.get("clinica")
    assert [version.id for version in adapter.active] == [job.version]
    told = registry.resolve("clinica").details["training"]
    assert told["job"] == job.id
    assert (told["training_file"], told["training_digest"]) == (job.training.id, job.training.digest)
    assert told["hyperparameters"]["n_epochs"] == 2
    assert (told["seed"], told["method"]) == (7, "supervised")
    assert told["evaluation"]["base"]["loss"] == 3.0
    assert told["train_loss"] == 0.5
    assert registry.resolve("clinica").source == job.id
    assert job.facts["evaluation"]["adapter"]["loss"] == 1.0
    assert job.facts["seconds"] == 2.5
    assert job.trained_tokens == 400
    assert script.threads == ["idle"]


def test_the_result_file_is_the_owners(desk: JobDesk, run: Runs) -> None:
    job = run(desk.make())
    (file,) = desk.files.list("ana").items
    assert (file.id, file.purpose) == (job.result_file, RESULTS)
    lines = desk.files.path(file).read_text().splitlines()
    assert lines[0].startswith("step,train_loss")
    assert len(lines) == 1 + N_STEPS


def test_checkpoints_are_versions_that_no_name_means(desk: JobDesk, run: Runs) -> None:
    job = run(desk.make())
    last, first = desk.jobs.checkpoints(job.id, None).items
    assert (first.step, last.step) == (2, 4)
    assert last.version == job.version
    registry = desk.registry()
    assert len(registry.get("clinica").versions) == 2
    assert registry.resolve(first.version).details["training"]["step"] == 2
    assert first.metrics == {"train_loss": 1.0}


def test_the_last_checkpoint_does_not_take_the_evaluation_away(desk: JobDesk, run: Runs) -> None:
    job = run(desk.make(validation=clinic_chats()[:4]))
    assert job.version is not None
    assert "evaluation" in desk.registry().resolve(job.version).details["training"]


def test_every_step_that_measured_something_is_an_event(desk: JobDesk, run: Runs) -> None:
    job = run(desk.make())
    metrics = [event.data for event in desk.events(job) if event.type == "metrics"]
    assert [told["step"] for told in metrics] == [1, 2, 4]  # 3 came too soon after the one before
    assert metrics[-1]["valid_loss"] == 1.5
    assert metrics[0]["total_steps"] == N_STEPS
    assert (job.step, job.n_steps) == (4, 4)


def test_a_loss_that_is_no_number_is_told_as_none(desk: JobDesk, run: Runs, script: Script) -> None:
    script.train_loss = float("nan")
    job = run(desk.make())
    assert job.facts["train_loss"] is None
    json.dumps([event.as_object() for event in desk.events(job)], allow_nan=False)


# Publication


def published(desk: JobDesk, run: Runs, script: Script, seeds: list[int], **fields: Any) -> Job:
    script.seeds = seeds
    return run(desk.make(**fields))


def meaning(desk: JobDesk) -> str:
    (active,) = desk.registry().get("clinica").active
    return active.id


def test_always_moves_the_name(desk: JobDesk, run: Runs, script: Script) -> None:
    published(desk, run, script, [1, 2])
    second = published(desk, run, script, [3, 4])
    assert meaning(desk) == second.version


def test_never_leaves_the_name_where_it_is(desk: JobDesk, run: Runs, script: Script) -> None:
    first = published(desk, run, script, [1, 2])
    second = published(desk, run, script, [3, 4], publish="never")
    assert meaning(desk) == first.version
    assert second.version is not None
    assert desk.registry().resolve(second.version).id == second.version


@pytest.mark.parametrize(
    ("base", "current", "is_moved"), [(3.0, 2.0, True), (3.0, 0.5, False), (0.5, 2.0, False), (3.0, 1.0, False)]
)
def test_if_better_needs_to_beat_base_and_present(
    desk: JobDesk, run: Runs, script: Script, base: float, current: float, is_moved: bool
) -> None:
    first = published(desk, run, script, [1, 2])
    script.losses = {"base": base, "adapter": 1.0, "current": current}
    second = published(desk, run, script, [3, 4], publish="if_better", validation=clinic_chats()[:4])
    assert meaning(desk) == (second if is_moved else first).version
    assert len(script.evaluated) == 1


def test_the_first_version_is_what_a_new_name_means(desk: JobDesk, run: Runs, script: Script) -> None:
    script.losses = {"base": 1.0, "adapter": 3.0}
    job = published(desk, run, script, [1, 2], publish="if_better", validation=clinic_chats()[:4])
    assert meaning(desk) == job.version
    assert any("not better than the base" in message for message in desk.messages(job))


def test_an_adapter_that_was_removed_meanwhile_is_made_anew(desk: JobDesk, run: Runs, script: Script) -> None:
    published(desk, run, script, [1, 2])
    script.at_step = lambda number: desk.registry().remove("clinica") if number == 3 else None  # type: ignore[assignment,func-returns-value,return-value]
    job = published(desk, run, script, [3, 4])
    assert meaning(desk) == job.version


@pytest.mark.parametrize("ended", ["publish", "result_file", "succeed"])
def test_what_a_kill_before_the_end_leaves_is_found_again(
    desk: JobDesk, run: Runs, script: Script, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    job = desk.make(validation=clinic_chats()[:4], publish="if_better")

    class Killed(BaseException):
        pass

    def kill_after(of: Any, name: str) -> None:
        call = getattr(of, name)

        def killed(*given: Any) -> Any:
            if name != "succeed":
                call(*given)
            raise Killed

        broken.setattr(of, name, killed)

    with monkeypatch.context() as broken:
        from adapters.training.jobs import Jobs

        kill_after(Jobs if ended == "succeed" else Publication, ended)
        with pytest.raises(Killed):
            run.status(job)
    desk.jobs.release(HOLDER)
    done = run(job)
    assert done.status == "succeeded"
    assert len(desk.registry().get("clinica").versions) == 2
    assert meaning(desk) == done.version
    assert [file.id for file in desk.files.list("ana").items] == [done.result_file]
    assert len(desk.jobs.checkpoints(job.id, None).items) == 2
    assert sum("successfully" in message for message in desk.messages(job)) == 1


# Wishes


@pytest.mark.parametrize(("wish", "status"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_wish_is_heard_at_the_next_step(desk: JobDesk, run: Runs, script: Script, wish: str, status: str) -> None:
    job = desk.make()
    script.at_step = lambda number: getattr(desk.jobs, wish)(job.id, None) if number == 3 else None  # type: ignore[assignment,return-value]
    assert run(job).status == status
    assert desk.registry().list() == []


def test_a_wish_is_heard_before_the_version_is_registered(
    desk: JobDesk, run: Runs, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.make(validation=clinic_chats()[:4])
    evaluate = script.evaluate_both

    def cancelled(*given: Any, **named: Any) -> dict[str, Any]:
        desk.jobs.cancel(job.id, None)
        return evaluate(*given, **named)

    monkeypatch.setattr(script, "evaluate_both", cancelled)
    assert run(job).status == "cancelled"
    assert desk.registry().list() == []


def test_a_process_that_is_told_to_end_lets_the_job_wait(desk: JobDesk, run: Runs, script: Script) -> None:
    job = desk.make()
    script.at_step = lambda number: run.stop.set() if number == 2 else None
    waiting = run(job)
    assert (waiting.status, waiting.starts) == ("queued", 0)
    run.stop.clear()
    script.at_step = lambda number: None
    assert run(job).status == "succeeded"


def test_who_has_lost_the_job_changes_nothing(desk: JobDesk, run: Runs, script: Script) -> None:
    job = desk.make()

    def lose(number: int) -> None:
        if number == 3:
            desk.jobs.release(HOLDER)
            assert desk.jobs.claim("another") is not None

    script.at_step = lose
    assert run.status(job) == 0
    now = desk.job(job)
    assert (now.status, now.lease_holder) == ("running", "another")


# Failures


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataInvalid("no_assistant", 3, "there is no assistant's turn"), "no_assistant", "line 3"),
        (JobInvalid("no linear layer 'x'", param="lora.target_modules"), "invalid_value", "'x'"),
        (MemoryError(), "out_of_memory", "batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 3 GiB"), "out_of_memory", "batch_size"),
        (ZeroDivisionError("division by zero"), "training_failed", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_failure_is_told_in_words(
    desk: JobDesk, run: Runs, script: Script, error: Exception, code: str, words: str
) -> None:
    script.raises = error
    job = run(desk.make())
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == code
    assert words in job.error["message"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter: No space left on device")],
)
def test_a_full_disk_pauses_the_job(desk: JobDesk, run: Runs, script: Script, error: Exception) -> None:
    script.raises = error
    job = run(desk.make())
    assert job.status == "paused"
    assert any("disk is full" in message for message in desk.messages(job))
    script.raises = None
    desk.jobs.resume(job.id, None)
    assert run(job).status == "succeeded"


def test_weights_that_diverged_are_refused_as_any_others(desk: JobDesk, run: Runs, script: Script) -> None:
    make = script.make_adapter

    def spoilt(name: str, *, seed: int) -> Path:
        folder = make(name, seed=seed)
        weights = {key: np.full_like(value, np.nan) for key, value in load_file(folder / FILE).items()}
        save_file(weights, folder / FILE)
        return folder

    script.make_adapter = spoilt
    job = run(desk.make())
    assert job.error is not None
    assert job.error["code"] == "nan_weights"
    assert desk.registry().list() == []


FILE = "adapter_model.safetensors"


def test_another_base_fails_the_job(desk: JobDesk, run: Runs, script: Script) -> None:
    job = run(desk.make(base_fingerprint="e" * 64, base_name="larger"))
    assert job.error is not None
    assert job.error["code"] == "base_changed"
    assert "'larger'" in job.error["message"]
    assert script.orders == []


def test_a_missing_base_fails_the_job(desk: JobDesk, run: Runs, tmp_path: Path) -> None:
    job = desk.make()
    empty = tmp_path / "empty"
    empty.mkdir()
    desk.settings = desk.settings.model_copy(update={"model": str(empty)})
    failed = run(job)
    assert failed.error is not None
    assert failed.error["code"] == "base_missing"
    assert str(empty) in failed.error["message"]


def test_a_database_that_does_not_answer_at_a_step_does_not_end_training(
    desk: JobDesk, run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters.training.jobs import Jobs

    progress = Jobs.progress
    failures = iter([DatabaseUnavailable("busy")])

    def failing(jobs: Jobs, *given: Any) -> Any:
        for error in failures:
            raise error
        return progress(jobs, *given)

    monkeypatch.setattr(Jobs, "progress", failing)
    assert run(desk.make()).status == "succeeded"


def test_a_database_that_does_not_answer_at_the_end_is_tried_by_the_next_process(
    desk: JobDesk, run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.make()
    with monkeypatch.context() as broken:
        broken.setattr(Publication, "result_file", _unavailable)
        assert run.status(job) == EXIT_AGAIN
    assert desk.job(job).status == "running"
    desk.jobs.release(HOLDER)
    assert run(job).status == "succeeded"


def _unavailable(*_: object) -> None:
    raise DatabaseUnavailable("busy")


# Going on from an adapter


def test_training_goes_on_from_a_copy_of_the_version(desk: JobDesk, run: Runs, script: Script) -> None:
    first = published(desk, run, script, [1, 2])
    assert first.version is not None
    job = desk.make(parent=first.version, model=first.version, suffix="clinica-2")
    script.seeds = [3, 4]
    script.at_step = lambda number: desk.registry().remove("clinica") if number == 1 else None  # type: ignore[assignment,func-returns-value,return-value]
    run(job)
    parent = script.orders[-1].parent
    assert parent is not None
    assert parent.is_relative_to(desk.folders.path(job.id))
    assert sorted(path.name for path in parent.iterdir()) == ["adapter_config.json", FILE]


def test_a_version_that_is_gone_before_the_start(desk: JobDesk, run: Runs) -> None:
    job = run(desk.make(parent="gone@123456789abc", model="gone@123456789abc"))
    assert job.error is not None
    assert (job.error["code"], job.error["param"]) == ("invalid_value", "model")
