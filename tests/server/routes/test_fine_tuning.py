"""Fine-tuning jobs through the official client: what makes one, what does not, and who may look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest

from adapters import preflight
from adapters.errors import AdapterNotFound
from adapters.registry import Registry
from adapters.training.folders import TRAINING, JobFolders
from adapters.training.job import Checkpoint
from adapters.training.jobs import new_checkpoint_id
from server.app import create_app
from server.services import Services

Upload = Callable[..., Awaitable[str]]
Add = Callable[..., Any]

INTENTS = [("Quero marcar consulta", "agenda"), ("Onde pego o exame?", "exames"), ("Preciso da nota fiscal", "caixa")]
JOBS = "/v1/fine_tuning/jobs"


def lines(*objects: Any) -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects).encode()


def chat(asked: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


GOOD = lines(*(chat(*pair) for pair in INTENTS))
PREFERENCE = lines(
    {
        "input": {"messages": [{"role": "user", "content": "Oi"}]},
        "preferred_output": [{"role": "assistant", "content": "Bom dia!"}],
        "non_preferred_output": [{"role": "assistant", "content": "Fala."}],
    }
)


@pytest.fixture
def upload(client: openai.AsyncOpenAI) -> Upload:
    async def uploaded(content: bytes = GOOD, *, name: str = "Intenções.jsonl", purpose: Any = "fine-tune") -> str:
        return (await client.files.create(file=(name, content), purpose=purpose)).id

    return uploaded


async def refused(http: httpx2.AsyncClient, **body: Any) -> tuple[int, str | None, str | None, str]:
    """(status, code, param, message)"""
    answer = await http.post(JOBS, json={"model": "demo", **body})
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"], error["message"]


async def test_a_job_is_made_with_its_own_copy_and_an_estimate(
    services: Services, client: openai.AsyncOpenAI, upload: Upload
) -> None:
    training, validation = await upload(), await upload(lines(chat(*INTENTS[0])))
    job = await client.fine_tuning.jobs.create(
        model="demo",
        training_file=training,
        validation_file=validation,
        suffix="clinica",
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}},
        metadata={"equipe": "atenção"},
    )
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", "demo", 7)
    assert (job.training_file, job.validation_file) == (training, validation)
    assert (job.fine_tuned_model, job.finished_at, job.error, job.result_files) == (None, None, None, [])
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (4, "auto")
    assert job.metadata == {"equipe": "atenção"}
    assert job.to_dict()["suffix"] == "clinica"
    assert job.to_dict()["publish"] == "always"
    await client.files.delete(training)
    kept = JobFolders(services.settings.training_dir).path(job.id) / TRAINING
    assert kept.read_bytes() == GOOD
    (first,) = (await client.fine_tuning.jobs.list_events(job.id)).data
    assert first.message.startswith(f"Created fine-tuning job {job.id}: 3 examples, ")
    assert "4 epochs" in first.message
    assert "a guess" in first.message
    told: Any = first.data
    assert told["training_file"]["n_examples"] == 3
    assert 0 < told["training_file"]["n_trained_tokens"] < told["training_file"]["n_tokens"]
    assert told["n_steps"] > 0
    assert await client.fine_tuning.jobs.retrieve(job.id) == job


async def test_least_is_a_model_and_a_file(client: openai.AsyncOpenAI, upload: Upload, services: Services) -> None:
    made = [await client.fine_tuning.jobs.create(model="demo", training_file=await upload()) for _ in range(2)]
    suffixes = [job.to_dict()["suffix"] for job in made]
    assert all(str(suffix).startswith("intencoes-") for suffix in suffixes)
    assert suffixes[0] != suffixes[1]  # the same file name is no reason to move another job's adapter
    assert made[0].seed != made[1].seed
    assert services.jobs.counts() == {"queued": 2}


async def test_old_hyperparameters_are_those_of_a_supervised_job(http: httpx2.AsyncClient, upload: Upload) -> None:
    body = {"model": "demo", "training_file": await upload(), "hyperparameters": {"n_epochs": 2}, "integrations": []}
    job = (await http.post(JOBS, json=body)).json()
    assert job["method"]["supervised"]["hyperparameters"]["n_epochs"] == 2
    assert job["hyperparameters"]["learning_rate_multiplier"] == "auto"


async def test_preferences_are_counted_and_not_told_as_sampled(client: openai.AsyncOpenAI, upload: Upload) -> None:
    job = await client.fine_tuning.jobs.create(
        model="demo",
        training_file=await upload(PREFERENCE),
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}},
    )
    assert job.method is not None
    assert job.method.type == "dpo"
    assert (await client.fine_tuning.jobs.retrieve(job.id)) == job


async def test_training_goes_on_from_a_version(client: openai.AsyncOpenAI, upload: Upload, add: Add) -> None:
    version = add("clinica")
    training = await upload()
    for name in ("clinica", version.id, f"ft:demo::clinica:{version.digest[:12]}"):
        job = await client.fine_tuning.jobs.create(model=name, training_file=training, suffix="clinica")
        assert job.model == version.id  # the one that the name meant then
        page = await client.fine_tuning.jobs.list_events(job.id)
        (created,) = (event for event in page.data if event.data)
        lora: Any = created.data["hyperparameters"]["lora"]  # type: ignore[index]  # OpenAI calls it an object
        assert (lora["r"], lora["alpha"], lora["target_modules"]) == (2, 4, ["q_proj"])  # its own, which stay


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "model", "string"),
    ({"training_file": None}, "training_file", "string"),
    ({"training_file": "file-none"}, "training_file", "no file has the id"),
    ({"validation_file": "file-none"}, "validation_file", "no file has the id"),
    ({"model": "guide"}, "model", "is an assistant"),
    ({"suffix": "com espaço"}, "suffix", "letters, digits"),
    ({"suffix": "x" * 65}, "suffix", "may have 64"),
    ({"suffix": "ft:demo::a:abcdef"}, "suffix", "permanent names"),
    ({"seed": -1}, "seed", "greater than or equal to 0"),
    ({"seed": "sete"}, "seed", "valid integer"),
    ({"metadata": {"k": 1}}, "metadata.k", "must be a string"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "may have 16"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations", "sends nothing"),
    ({"publish": "sometimes"}, "publish", "always"),
    ({"publish": "if_better"}, "publish", "validation_file"),
    ({"n_epochs": 3}, "n_epochs", "unknown field"),
    ({"hyperparameters": {"beta": 1}}, "hyperparameters.beta", "unknown field"),
    ({"hyperparameters": {"n_epochs": 2}, "method": {"type": "dpo"}}, "hyperparameters", "inside `method`"),
    ({"method": {"type": "reinforcement"}}, "method.type", "supervised"),
    ({"method": {"type": "dpo", "supervised": {}}}, "method", "`type` is 'dpo'"),
    (
        {"method": {"supervised": {"hyperparameters": {"n_epochs": 0}}}},
        "method.supervised.hyperparameters.n_epochs",
        "",
    ),
    ({"method": {"type": "prompt_tuning"}}, "method.type", "MANYHATS_PROMPT_TUNING"),
    (
        {"method": {"supervised": {"hyperparameters": {"lora": {"r": 128}}}}},
        "method.supervised.hyperparameters.lora.r",
        "MANYHATS_MAX_RANK is 64",
    ),
    (
        {"method": {"supervised": {"hyperparameters": {"lora": {"target_modules": ["q_proj", "conv"]}}}}},
        "method.supervised.hyperparameters.lora.target_modules",
        "no linear layers 'conv'; it has ['down_proj', 'gate_proj', 'k_proj'",
    ),
]


@pytest.mark.parametrize(("change", "param", "words"), BAD, ids=lambda value: str(value)[:40])
async def test_what_cannot_be_a_job(
    services: Services, http: httpx2.AsyncClient, upload: Upload, change: dict[str, Any], param: str, words: str
) -> None:
    services.assistants.create({"name": "guide", "model": "demo"})
    body = {"model": "demo", "training_file": await upload(), **change}
    answer = await http.post(JOBS, json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert words in error["message"]
    if param.startswith("method.supervised.hyperparameters.n_epochs"):  # pydantic names the alternative too
        assert str(error["param"]).startswith(param)
    else:
        assert error["param"] == param
    assert services.jobs.counts() == {}
    assert not services.settings.training_dir.exists()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (GOOD + b"{'messages'}\n", "not_json", "line 4"),
        (GOOD + b'{"messages": []}\n', None, "line 4"),
        (GOOD + b"\xff\n", None, "line 4"),
        (PREFERENCE, None, "line 1"),
    ],
)
async def test_a_line_that_cannot_be_used_is_named(
    services: Services, http: httpx2.AsyncClient, upload: Upload, content: bytes, code: str | None, words: str
) -> None:
    bad, good = await upload(content), await upload()
    for param, files in (
        ("training_file", {"training_file": bad}),
        ("validation_file", {"training_file": good, "validation_file": bad}),
    ):
        status, kind, named, message = await refused(http, **files)
        assert (status, named) == (400, param)
        assert message.startswith(f"{param}: {words}: ")
        assert kind is not None
        assert kind == code or code is None
    assert services.jobs.counts() == {}
    assert list(services.settings.training_dir.iterdir()) == []


async def test_files_of_other_purposes_and_sizes(services: Services, http: httpx2.AsyncClient, upload: Upload) -> None:
    status, _, param, message = await refused(http, training_file=await upload(purpose="user_data"))
    assert (status, param) == (400, "training_file")
    assert "uploaded for 'user_data'" in message
    small = services.settings.model_copy(update={"max_training_bytes": 10})
    services.job_intake._settings = small
    status, _, param, message = await refused(http, training_file=await upload())
    assert (status, param) == (400, "training_file")
    assert "MANYHATS_MAX_TRAINING_BYTES allows 10" in message


async def test_names_that_are_taken(services: Services, http: httpx2.AsyncClient, upload: Upload, add: Add) -> None:
    training = await upload()
    services.assistants.create({"name": "guide", "model": "demo"})
    for name in ("demo", "embedder", "guide"):
        assert (await refused(http, training_file=training, suffix=name))[:3] == (409, "name_taken", "suffix")
    services.registry.begin("far", "hf://org/far")
    assert (await refused(http, training_file=training, suffix="far"))[:3] == (409, "name_taken", "suffix")
    add("other")
    services.registry._base_fingerprint = "0" * 64  # as if the server had another base now
    services.registry.refresh()
    assert (await refused(http, training_file=training, suffix="other"))[:3] == (409, "other_base", "suffix")


async def test_an_adapter_s_shape_and_a_canary_are_refused_as_parents(
    services: Services, http: httpx2.AsyncClient, upload: Upload, add: Add
) -> None:
    first, training = add("clinica", seed=1), await upload()
    method = {"type": "supervised", "supervised": {"hyperparameters": {"lora": {"r": 4}}}}
    status, _, param, message = await refused(http, model="clinica", training_file=training, method=method)
    assert (status, param) == (400, "method.supervised.hyperparameters.lora")
    assert "leave `lora` out" in message
    second = add("clinica", seed=2, as_version=True)
    services.registry.move_alias("clinica", traffic={first.id: 1, second.id: 1})
    status, _, param, message = await refused(http, model="clinica", training_file=training)
    assert (status, param) == (400, "model")
    assert "several versions" in message
    assert (await refused(http, model="nobody", training_file=training))[:3] == (404, "model_not_found", "model")


async def test_lists_by_page_and_by_metadata(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, upload: Upload
) -> None:
    training = await upload()
    pairs: list[dict[str, str]] = [{"team": "a"}, {"team": "b", "año": ""}, {}]
    made = [
        (await client.fine_tuning.jobs.create(model="demo", training_file=training, metadata=some)).id for some in pairs
    ]
    assert [job.id async for job in client.fine_tuning.jobs.list(limit=2)] == made[::-1]
    found = await client.fine_tuning.jobs.list(metadata={"team": "b"})
    assert [job.id for job in found.data] == [made[1]]
    found = await client.fine_tuning.jobs.list(metadata={"año": ""})
    assert [job.id for job in found.data] == [made[1]]
    without = (await http.get(JOBS, params={"metadata": "null"})).json()
    assert [job["id"] for job in without["data"]] == [made[2]]
    both = await http.get(JOBS, params={"metadata": "null", "metadata[team]": "a"})
    assert (both.status_code, both.json()["error"]["param"]) == (400, "metadata")
    unknown = await http.get(JOBS, params={"after": "ftjob-none"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "after")
    assert (await http.get(JOBS, params={"limit": 0})).status_code == 400


async def test_pause_resume_and_cancel(client: openai.AsyncOpenAI, upload: Upload, services: Services) -> None:
    jobs = client.fine_tuning.jobs
    job = await jobs.create(model="demo", training_file=await upload())
    assert (await jobs.pause(job.id)).to_dict()["status"] == "paused"  # the client types do not know it
    assert (await jobs.resume(job.id)).status == "queued"
    claimed = services.jobs.claim("worker")
    assert claimed is not None
    cancelled = await jobs.cancel(job.id)
    assert (cancelled.status, cancelled.to_dict()["wanted"]) == ("running", "cancel")
    services.jobs.put_down(job.id, "worker", "cancelled")
    assert (await jobs.cancel(job.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="ended as 'cancelled'") as caught:
        await jobs.resume(job.id)
    assert caught.value.code == "job_state"
    with pytest.raises(openai.NotFoundError, match="no fine-tuning job"):
        await jobs.cancel("ftjob-none")


async def test_events_checkpoints_and_the_end(client: openai.AsyncOpenAI, upload: Upload, services: Services) -> None:
    jobs = client.fine_tuning.jobs
    job = await jobs.create(model="demo", training_file=await upload(), suffix="clinica")
    services.jobs.claim("worker")
    services.jobs.began(job.id, "worker", 9, {"hyperparameters": {"n_epochs": 3, "batch_size": 1}})
    for step in (3, 6):
        checkpoint = Checkpoint(
            id=new_checkpoint_id(),
            job_id=job.id,
            created_at=1_000.0,
            step=step,
            base_name="demo",
            version=f"clinica@{step:012x}",
            metrics={"train_loss": 1 / step},
        )
        services.jobs.add_checkpoint(checkpoint)
    services.jobs.succeed(job.id, "worker", "clinica@00000000000a", "file-1", 300, {"evaluation": {"loss": 0.1}})
    done = await jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == (
        "succeeded",
        "ft:demo::clinica:00000000000a",
        300,
    )
    assert (done.hyperparameters.n_epochs, done.result_files) == (3, ["file-1"])
    events = [event async for event in jobs.list_events(job.id, limit=1)]
    assert events[0].message == "The job has successfully completed"
    assert len(events) == 3
    found = [checkpoint async for checkpoint in jobs.checkpoints.list(job.id, limit=1)]
    assert [one.step_number for one in found] == [6, 3]
    assert found[0].fine_tuned_model_checkpoint == "ft:demo::clinica:000000000006"
    assert found[0].metrics.step == 6


@pytest.mark.parametrize("asked", ["job", "jobs", "events"])
async def test_whoever_reads_of_the_end_can_use_the_model_at_once(
    client: openai.AsyncOpenAI, upload: Upload, services: Services, add: Add, asked: str
) -> None:
    jobs = client.fine_tuning.jobs
    job = await jobs.create(model="demo", training_file=await upload(), suffix="clinica")
    services.jobs.claim("worker")
    worker = Registry(
        services.database,
        services.blobs,
        base_name=services.base.name,
        base_fingerprint=services.base.fingerprint,
    )
    version = add("clinica")
    services.registry.remove("clinica")  # as far as the API process knows, there is none
    source = services.blobs.path(f"adapters/{version.digest}")
    with services.blobs.staging() as work:
        shutil.copytree(source, work / "adapter")
        manifest = preflight.check(work / "adapter", services.base, max_rank=64, max_bytes=10**8)
        worker.add("clinica", work / "adapter", manifest, source="job")
    with pytest.raises(AdapterNotFound):
        services.registry.resolve("clinica")
    services.jobs.succeed(job.id, "worker", version.id, None, 300, {})
    if asked == "job":
        await jobs.retrieve(job.id)
    elif asked == "jobs":
        await jobs.list()
    else:
        await jobs.list_events(job.id)
    assert services.registry.resolve(f"ft:demo::clinica:{version.digest[:12]}").digest == version.digest


async def test_inference_keys_look_at_their_owners_jobs_and_steer_none(
    services: Services, http: httpx2.AsyncClient, upload: Upload
) -> None:
    training = await upload()
    secrets = {
        name: services.keys.create(name, role=role, owner=owner)[1]  # type: ignore[arg-type]  # the roles below
        for name, role, owner in (("root", "admin", "ana"), ("ann", "inference", "ana"), ("bob", "inference", "bob"))
    }
    headers = {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
    made = await http.post(JOBS, json={"model": "demo", "training_file": training}, headers=headers["root"])
    address = f"{JOBS}/{made.json()['id']}"
    for sub in ("", "/events", "/checkpoints"):
        statuses = [(await http.get(address + sub, headers=headers[name])).status_code for name in headers]
        assert statuses == [200, 200, 404], sub
    listed = [len((await http.get(JOBS, headers=headers[name])).json()["data"]) for name in headers]
    assert listed == [1, 1, 0]
    for action in ("cancel", "pause", "resume"):
        answer = await http.post(f"{address}/{action}", headers=headers["ann"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_required")
    assert (await http.get(address, headers=headers["ann"])).json()["status"] == "queued"


async def test_a_full_disk_is_told_as_such(
    services: Services, http: httpx2.AsyncClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    training = await upload()
    monkeypatch.setattr(JobFolders, "make", full)
    status, code, *_ = await refused(http, training_file=training)
    assert (status, code) == (507, "disk_full")
    assert services.jobs.counts() == {}


async def test_prompt_tuning_where_it_is_on(services: Services, upload: Upload) -> None:
    on = services.settings.model_copy(update={"prompt_tuning": True})
    services.job_intake._settings = on
    opened = replace(services, settings=on)
    transport = httpx2.ASGITransport(app=create_app(opened))
    body = {"model": "demo", "training_file": await upload(), "method": {"type": "prompt_tuning"}}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        job = (await http.post(JOBS, json=body)).json()
    assert job["method"]["prompt_tuning"]["hyperparameters"]["n_virtual_tokens"] == "auto"
