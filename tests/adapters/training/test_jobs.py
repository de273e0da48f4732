from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from adapters.training.errors import JobInvalid, JobNotFound, JobState
from adapters.training.job import Checkpoint, Event, Job, JobFile
from adapters.training.jobs import Jobs, new_checkpoint_id, new_event_id, new_job_id
from adapters.training.method import Method
from server.storage.database import Database

MakeJob = Callable[..., Job]


class Clock:
    """Seconds that pass when a test says so, and a little at each look, so that no two jobs are of the same moment."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def jobs(database: Database, clock: Clock, written: list[str]) -> Jobs:
    def note(connection: Connection) -> None:
        assert connection.in_transaction()
        written.append("")

    return Jobs(database, clock=clock, on_write=note)


@pytest.fixture
def make(jobs: Jobs, clock: Clock) -> MakeJob:
    def made(**fields: object) -> Job:
        job = Job(
            id=new_job_id(),
            owner="ana",
            status="queued",
            created_at=clock(),
            base_name="demo",
            base_fingerprint="f" * 64,
            model="demo",
            suffix="clinica",
            method=Method(),
            seed=7,
            training=JobFile(id="file-1", digest="d" * 64, n_examples=12, n_tokens=340, n_trained_tokens=120),
        )
        return jobs.create(replace(job, **fields))  # type: ignore[arg-type]  # a test's own words

    return made


@pytest.fixture
def running(jobs: Jobs, make: MakeJob) -> Job:
    make()
    job = jobs.claim("w1")
    assert job is not None
    return job


def messages(jobs: Jobs, job: Job) -> list[str]:
    """Oldest first."""
    return [event.message for event in jobs.events(job.id, None, limit=100).items][::-1]


def test_a_job_comes_back_as_it_was_made(jobs: Jobs, make: MakeJob) -> None:
    method = Method.model_validate(
        {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "lora": {"r": 4, "target_modules": ["q_proj"]}}}}
    )
    validation = JobFile(id="file-2", digest="e" * 64, n_examples=3, n_tokens=9, n_trained_tokens=4, is_estimate=True)
    job = make(method=method, metadata={"equipe": "atenção"}, validation=validation, publish="never", parent="a@b")
    assert jobs.get(job.id, "ana") == job
    assert (job.method, job.validation, job.metadata) == (method, validation, {"equipe": "atenção"})
    assert job.as_object()["method"]["dpo"]["hyperparameters"]["beta"] == 0.2


@pytest.mark.parametrize("method", [{}, {"type": "prompt_tuning"}, {"type": "supervised", "supervised": {}}])
def test_every_method_can_be_read_again(make: MakeJob, method: dict[str, object]) -> None:
    assert make(method=Method.model_validate(method)).method == Method.model_validate(method)


def test_a_job_is_its_owners(jobs: Jobs, make: MakeJob) -> None:
    job = make()
    assert jobs.get(job.id, None) == job
    for ask in (jobs.get, jobs.cancel, jobs.pause, jobs.resume, jobs.events, jobs.checkpoints):
        with pytest.raises(JobNotFound, match="no fine-tuning job"):
            ask(job.id, "bia")
    assert jobs.list("bia").items == ()


def test_lists_go_from_the_newest_page_by_page(jobs: Jobs, make: MakeJob) -> None:
    made = [make(metadata={"n": str(n % 2)} if n else {}) for n in range(5)]
    ids = [job.id for job in made][::-1]
    first = jobs.list("ana", limit=2)
    assert ([job.id for job in first.items], first.has_more) == (ids[:2], True)
    rest = jobs.list("ana", limit=3, after=ids[1])
    assert ([job.id for job in rest.items], rest.has_more) == (ids[2:], False)
    odd = jobs.list("ana", metadata={"n": "1"})
    assert [job.id for job in odd.items] == [made[3].id, made[1].id]
    assert [job.id for job in jobs.list("ana", metadata={}).items] == [made[0].id]
    assert jobs.list("ana", metadata={'a"]\\': "1"}).items == ()
    with pytest.raises(JobInvalid, match="earlier page") as raised:
        jobs.list("ana", after="ftjob-none")
    assert raised.value.param == "after"


def test_events_and_checkpoints_are_listed_from_the_newest(jobs: Jobs, make: MakeJob, clock: Clock) -> None:
    job = make()
    for word in ("um", "dois"):
        jobs.say(job.id, "warn", word, {"n": word})
    page = jobs.events(job.id, "ana", limit=1)
    assert ([event.message for event in page.items], page.has_more) == (["dois"], True)
    page = jobs.events(job.id, "ana", 5, page.items[0].id)
    assert [event.message for event in page.items] == ["um", "Created fine-tuning job"]
    for step in (5, 10, 10):  # the last is told again by a process that was started anew
        jobs.add_checkpoint(
            Checkpoint(
                id=new_checkpoint_id(),
                job_id=job.id,
                created_at=clock(),
                step=step,
                base_name="demo",
                version=f"clinica@{step:012x}",
                metrics={"train_loss": 0.5},
            )
        )
    found = jobs.checkpoints(job.id, "ana")
    assert [checkpoint.step for checkpoint in found.items] == [10, 5]
    assert found.items[0].as_object()["fine_tuned_model_checkpoint"] == "ft:demo::clinica:00000000000a"
    with pytest.raises(JobInvalid):
        jobs.checkpoints(job.id, "ana", after=page.items[0].id)


def test_the_oldest_is_claimed_first_and_once(jobs: Jobs, make: MakeJob, clock: Clock) -> None:
    first, second = make(), make()
    claimed = jobs.claim("w1", lease_seconds=60)
    assert claimed is not None
    assert (claimed.id, claimed.status, claimed.starts, claimed.lease_holder) == (first.id, "running", 1, "w1")
    other = jobs.claim("w2")
    assert other is not None
    assert other.id == second.id
    assert jobs.claim("w3") is None
    clock.now += 61
    again = jobs.claim("w3")
    assert again is not None
    assert (again.id, again.starts) == (first.id, 2)


def test_two_who_claim_at_once_get_different_jobs(jobs: Jobs, make: MakeJob) -> None:
    made = {make().id for _ in range(6)}
    with ThreadPoolExecutor(8) as pool:
        claimed = [job.id for job in pool.map(lambda n: jobs.claim(f"w{n}"), range(8)) if job]
    assert sorted(claimed) == sorted(made)


def test_whoever_lost_the_lease_changes_nothing(jobs: Jobs, running: Job, clock: Clock) -> None:
    clock.now += 61
    assert jobs.claim("w2") is not None
    event = Event(id=new_event_id(), created_at=1, level="info", message="late")
    late: list[Callable[[], object]] = [
        lambda: jobs.renew(running.id, "w1", 60),
        lambda: jobs.began(running.id, "w1", 10, {}),
        lambda: jobs.progress(running.id, "w1", 1, 10, None, event),
        lambda: jobs.succeed(running.id, "w1", "clinica@0123456789ab", None, 10, {}),
        lambda: jobs.fail(running.id, "w1", "x", "y"),
        lambda: jobs.put_down(running.id, "w1", "queued"),
    ]
    before = jobs.get(running.id, None)
    for call in late:
        with pytest.raises(JobState, match="not worked on by 'w1'"):
            call()
    assert jobs.get(running.id, None) == before
    assert messages(jobs, running) == ["Created fine-tuning job"]
    assert jobs.renew(running.id, "w2", 60) == "go"


def test_a_renewed_lease_holds(jobs: Jobs, running: Job, clock: Clock) -> None:
    clock.now += 50
    assert jobs.renew(running.id, "w1", 60) == "go"
    clock.now += 50
    assert jobs.claim("w2") is None


def test_a_released_job_is_free_at_once(jobs: Jobs, running: Job) -> None:
    assert jobs.release("w2") == 0
    assert jobs.release("w1") == 1
    again = jobs.claim("w2")
    assert again is not None
    assert (again.id, again.starts) == (running.id, 2)


def test_starts_count_until_a_step_is_kept(jobs: Jobs, running: Job) -> None:
    jobs.release("w1")
    jobs.claim("w1")
    jobs.kept(running.id)
    assert jobs.get(running.id, None).starts == 0
    jobs.kept(running.id)
    jobs.release("w1")
    again = jobs.claim("w1")
    assert again is not None
    assert again.starts == 1


def test_progress_is_seen_and_wakes_nobody(jobs: Jobs, running: Job, written: list[str]) -> None:
    jobs.began(running.id, "w1", 30, {"hyperparameters": {"n_epochs": 3}})
    written.clear()
    event = Event(id=new_event_id(), created_at=1, level="info", message="Step 4", type="metrics", data={"step": 4})
    assert jobs.progress(running.id, "w1", 4, 99, 2_000.5, event) == "go"
    job = jobs.get(running.id, "ana")
    shown = job.as_object()
    assert (shown["step"], shown["n_steps"], shown["estimated_finish"]) == (4, 30, 2000)
    assert shown["trained_tokens"] is None  # told at the end, as OpenAI does
    assert shown["hyperparameters"]["n_epochs"] == 3
    assert jobs.events(running.id, "ana").items[0] == event
    assert written == []


def test_the_first_beginning_is_when_it_started(jobs: Jobs, running: Job) -> None:
    jobs.began(running.id, "w1", 30, {"a": 1})
    started = jobs.get(running.id, None).started_at
    jobs.progress(running.id, "w1", 4, 99, None)
    jobs.began(running.id, "w1", 30, {"b": 2})
    job = jobs.get(running.id, None)
    assert (job.started_at, job.facts) == (started, {"a": 1, "b": 2})
    assert messages(jobs, running)[1:] == [
        "Training started, 30 steps in all",
        "Training goes on after step 4, 30 steps in all",
    ]


def test_a_job_that_succeeded(jobs: Jobs, running: Job, clock: Clock) -> None:
    facts = {"seconds": 10.0, "hyperparameters": {"n_epochs": 5}}
    jobs.succeed(running.id, "w1", "clinica@0123456789ab", "file-9", 5_000, facts)
    job = jobs.get(running.id, "ana")
    assert (job.status, job.lease_holder, job.result_file) == ("succeeded", None, "file-9")
    assert job.as_object()["fine_tuned_model"] == "ft:demo::clinica:0123456789ab"
    assert job.as_object()["trained_tokens"] == 5_000
    assert jobs.tokens_per_second("f" * 64, "supervised") == 340 * 5 / 10
    assert jobs.tokens_per_second("f" * 64, "dpo") is None
    assert jobs.tokens_per_second("e" * 64, "supervised") is None
    clock.now += 1_000
    assert jobs.claim("w2") is None


def test_a_job_that_failed_says_why(jobs: Jobs, running: Job) -> None:
    jobs.fail(running.id, "w1", "out_of_memory", "it did not fit", "hyperparameters.batch_size")
    shown = jobs.get(running.id, "ana").as_object()
    assert shown["status"] == "failed"
    assert shown["error"] == {
        "code": "out_of_memory",
        "message": "it did not fit",
        "param": "hyperparameters.batch_size",
    }
    assert jobs.events(running.id, "ana").items[0].level == "error"


def test_what_waits_is_cancelled_at_once(jobs: Jobs, make: MakeJob) -> None:
    for job in (make(), jobs.pause(make().id, "ana")):
        assert jobs.cancel(job.id, "ana").status == "cancelled"
        cancelled = jobs.cancel(job.id, "ana")  # as often as one likes
        assert (cancelled.status, cancelled.finished_at is not None) == ("cancelled", True)
    assert jobs.claim("w1") is None


def test_what_runs_is_cancelled_when_its_process_looks(jobs: Jobs, running: Job) -> None:
    asked = jobs.cancel(running.id, "ana")
    assert (asked.status, asked.wanted) == ("running", "cancel")
    assert jobs.cancel(running.id, "ana") == asked
    assert jobs.renew(running.id, "w1", 60) == "cancel"
    assert jobs.progress(running.id, "w1", 1, 10, None) == "cancel"
    for refused in (jobs.pause, jobs.resume):
        with pytest.raises(JobState, match="being cancelled"):
            refused(running.id, "ana")
    assert jobs.put_down(running.id, "w1", "cancelled").status == "cancelled"
    assert messages(jobs, running)[1:] == [
        "The job will be cancelled after the step it is at",
        "The job was cancelled",
    ]


def test_a_pause_and_its_end(jobs: Jobs, running: Job) -> None:
    assert jobs.pause(running.id, "ana").wanted == "pause"
    assert jobs.renew(running.id, "w1", 60) == "pause"
    paused = jobs.put_down(running.id, "w1", "paused")
    assert (paused.status, paused.wanted, paused.starts) == ("paused", None, 0)
    assert jobs.pause(running.id, "ana") == paused
    assert jobs.claim("w1") is None
    assert jobs.resume(running.id, "ana").status == "queued"
    assert jobs.resume(running.id, "ana").status == "queued"
    again = jobs.claim("w1")
    assert again is not None
    assert again.id == running.id


def test_what_was_resumed_while_it_stopped_is_queued(jobs: Jobs, running: Job) -> None:
    jobs.pause(running.id, "ana")
    assert jobs.resume(running.id, "ana").wanted is None
    assert jobs.put_down(running.id, "w1", "paused").status == "queued"


@pytest.mark.parametrize("stopped", ["paused", "queued"])
def test_what_was_cancelled_while_it_stopped_is_cancelled(jobs: Jobs, running: Job, stopped: str) -> None:
    jobs.pause(running.id, "ana")
    jobs.cancel(running.id, "ana")
    assert jobs.put_down(running.id, "w1", stopped).status == "cancelled"  # type: ignore[arg-type]  # the parameters


def test_a_wish_that_a_dead_process_cannot_grant_is_granted(jobs: Jobs, running: Job, clock: Clock) -> None:
    jobs.pause(running.id, "ana")
    clock.now += 61  # its process died before it looked
    assert jobs.claim("w2") is None
    assert jobs.get(running.id, "ana").status == "paused"


@pytest.mark.parametrize("asked_before", [False, True])
def test_without_a_process_a_wish_is_granted_at_once(
    jobs: Jobs, running: Job, clock: Clock, asked_before: bool
) -> None:
    if asked_before:
        jobs.cancel(running.id, "ana")
    clock.now += 61
    assert jobs.cancel(running.id, "ana").status == "cancelled"


def test_a_cancellation_of_what_is_done_comes_too_late(jobs: Jobs, running: Job) -> None:
    jobs.cancel(running.id, "ana")
    jobs.succeed(running.id, "w1", "clinica@0123456789ab", None, 10, {})  # it had looked before
    job = jobs.get(running.id, "ana")
    assert (job.status, job.wanted) == ("succeeded", None)
    assert "The wish to cancel came when the job was done" in messages(jobs, running)


def test_what_fails_while_it_is_cancelled_is_cancelled(jobs: Jobs, running: Job) -> None:
    jobs.cancel(running.id, "ana")
    jobs.fail(running.id, "w1", "interrupted", "killed")
    job = jobs.get(running.id, "ana")
    assert (job.status, job.error) == ("cancelled", None)


@pytest.mark.parametrize("asked", ["cancel", "pause", "resume"])
def test_what_is_over_stays_as_it_is(jobs: Jobs, running: Job, asked: str) -> None:
    jobs.succeed(running.id, "w1", "clinica@0123456789ab", None, 10, {})
    with pytest.raises(JobState, match="ended as 'succeeded'"):
        getattr(jobs, asked)(running.id, "ana")


def test_many_wishes_at_once_end_in_one_state(jobs: Jobs, running: Job) -> None:
    def wish(n: int) -> None:
        with suppress(JobState):
            (jobs.pause, jobs.resume, jobs.cancel)[n % 3](running.id, "ana")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(wish, range(30)))
    assert jobs.get(running.id, "ana").wanted == "cancel"
    assert jobs.put_down(running.id, "w1", "paused").status == "cancelled"


def test_changes_are_told_to_other_processes(jobs: Jobs, make: MakeJob, written: list[str]) -> None:
    calls: list[Callable[[Job], object]] = [
        lambda job: jobs.pause(job.id, "ana"),
        lambda job: jobs.resume(job.id, "ana"),
        lambda _: jobs.claim("w1"),
        lambda job: jobs.cancel(job.id, "ana"),
        lambda job: jobs.put_down(job.id, "w1", "cancelled"),
    ]
    job = make()
    for call in calls:
        written.clear()
        call(job)
        assert written


def test_counts_and_what_is_unfinished(jobs: Jobs, running: Job, make: MakeJob) -> None:
    queued, over = make(), make()
    jobs.cancel(over.id, None)
    assert jobs.counts() == {"running": 1, "queued": 1, "cancelled": 1}
    assert jobs.unfinished() == {running.id, queued.id}
