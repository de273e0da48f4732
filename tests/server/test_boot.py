"""From settings to services: what is refused, what is brought back, and nothing left running after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.base_model import BaseModel
from adapters.errors import NameTaken
from retrieval.embedding import Embedder
from server import boot
from server.engine.fake import FakeEngine
from server.services import Services
from server.settings import Settings
from server.storage.errors import FileInvalid

Make = Callable[..., Path]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """A base of the user's own; the demo's adapters would take their time."""
    (tmp_path / "model").mkdir()
    return settings.model_copy(update={"model": str(tmp_path / "model"), "model_name": "mine"})


@pytest.fixture
async def start(
    settings: Settings, engine: FakeEngine, base: BaseModel, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Any]]:
    """Boot on the data directory, with the embedder and the base's shapes at hand."""
    started: list[Services] = []

    async def start_engine(settings: Settings, *, extra: Any = ()) -> FakeEngine:
        return engine

    monkeypatch.setattr(boot, "start_engine", start_engine)
    monkeypatch.setattr(boot, "embedder_of", lambda settings: embedder)
    monkeypatch.setattr(BaseModel, "read", lambda path, cache: base)

    async def start(**changes: Any) -> Services:
        services = await boot.boot(settings.model_copy(update=changes))
        started.append(services)
        return services

    yield start
    for services in started:
        await services.background.drain(0)
        await services.slots.close()
        services.close()


async def _stop(services: Services) -> None:
    await services.background.drain(0)
    await services.slots.close()
    services.close()


async def test_what_was_registered_is_back_and_pins_are_in_before_it_is_ready(
    start: Callable[..., Any], engine: FakeEngine, make_adapter: Make
) -> None:
    from server.intake import Order, from_source

    services = await start()
    source = str(make_adapter())
    version, _ = services.intake.take(Order(name="legal", source=source, stage=from_source(source), pin=True))
    services.registry.begin("far", "hf://org/far")
    await _stop(services)
    again = await start()
    assert version.engine_name in engine.loaded
    assert again.registry.resolve("legal").lora_id == version.lora_id
    assert [adapter.name for adapter in again.registry.list()] == ["legal"]  # what was being fetched is gone


async def test_the_base_is_called_by_its_public_name(start: Callable[..., Any]) -> None:
    services = await start()
    assert services.base.name == services.catalogue.base_name == "mine"


async def test_another_embedder_s_stores_are_asked_to_be_embedded_anew(
    start: Callable[..., Any], settings: Settings, embedder: Embedder
) -> None:
    from tests.retrieval.shelf import FINGERPRINT, Shelf

    services = await start()
    shelf = Shelf(services.database, services.blobs)
    store = services.stores.create("ana")
    shelf.attached(store.id, ["embedded by another model"])
    same = services.stores.create("ana")
    assert services.stores.get(store.id).fingerprint == FINGERPRINT
    await _stop(services)
    again = await start()
    job = again.reembeddings.claim("test", embedder.fingerprint)
    assert job is not None
    assert (job.store_id, job.chunks_total) == (store.id, 1)
    assert again.reembeddings.claim("test", embedder.fingerprint) is None
    assert same.fingerprint is None


async def test_an_assistant_without_its_store_is_told_and_does_not_keep_the_server(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "assistants.yaml"
    file.write_text(
        "- name: guide\n  model: mine\n  tool_resources: {file_search: {vector_store_ids: [not-made-yet]}}\n"
    )
    await start(assistants_file=file)
    assert "'guide' cannot be answered from its stores" in caplog.text
    assert "not-made-yet" in caplog.text


async def test_names_of_models_are_taken(start: Callable[..., Any], embedder: Embedder, make_adapter: Make) -> None:
    services = await start()
    services.assistants.create({"name": "lawyer", "model": "mine"})
    for name in ("mine", "embedder", "lawyer"):
        with pytest.raises(NameTaken):
            services.registry.begin(name, "hf://org/x")
    services.registry.begin("legal", "hf://org/x")
    for name in ("mine", "embedder", "legal"):
        with pytest.raises(NameTaken):
            services.assistants.create({"name": name, "model": "mine"})


async def test_an_assistants_file_that_is_wrong_closes_the_engine(
    start: Callable[..., Any], engine: FakeEngine, tmp_path: Path
) -> None:
    file = tmp_path / "assistants.yaml"
    file.write_text("- name: mine\n  model: mine\n")
    with pytest.raises(FileInvalid, match="mine"):
        await start(assistants_file=file)
    assert engine.dead


async def test_an_engine_that_does_not_start_is_the_error(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(settings: Settings, *, extra: Any = ()) -> FakeEngine:
        raise ValueError("no such model")

    monkeypatch.setattr(boot, "start_engine", fail)
    with pytest.raises(ValueError, match="no such model"):
        await start()


async def test_a_base_that_cannot_be_read_stops_the_engine_s_start(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = asyncio.Event()

    async def slow(settings: Settings, *, extra: Any = ()) -> FakeEngine:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    def unreadable(path: Path, cache: Path) -> BaseModel:
        raise ValueError(f"{path} has no config.json")

    monkeypatch.setattr(boot, "start_engine", slow)
    monkeypatch.setattr(BaseModel, "read", unreadable)
    with pytest.raises(ValueError, match=r"no config\.json"):
        await start()
    assert stopped.is_set()


async def test_what_was_being_answered_when_the_process_died_has_failed(start: Callable[..., Any]) -> None:
    from server.auth import LOCAL
    from server.storage.responses import StoredResponse

    services = await start()
    row = StoredResponse(
        id="resp_1", owner="ann", status="queued", model="mine", created_at=1.0, expires_at=9e9,
        body={"id": "resp_1", "status": "queued"}, input_items=(), background=True,
    )  # fmt: skip  # one field per line says nothing more
    services.responses.save(row)
    await _stop(services)
    again = await start()
    assert again.responses.load("resp_1", LOCAL).status == "failed"


async def test_one_of_several_leaves_alone_what_others_may_be_at_work_on(
    start: Callable[..., Any], make_adapter: Make
) -> None:
    import time

    from server.auth import LOCAL
    from server.intake import Order, from_source
    from server.storage.responses import StoredResponse

    services = await start()
    version, _ = services.intake.take(Order(name="legal", source="test", stage=from_source(str(make_adapter()))))
    removed, _ = services.intake.take(Order(name="old", source="test", stage=from_source(str(make_adapter(seed=1)))))
    gone = services.registry.path(removed)
    services.registry.remove("old")
    services.registry.begin("far", "hf://org/far")
    for name, created_at in (("resp_dead", 1.0), ("resp_1", time.time())):
        row = StoredResponse(
            id=name, owner="ann", status="in_progress", model="mine", created_at=created_at, expires_at=9e9,
            body={"id": name, "status": "in_progress"}, input_items=(), background=True,
        )  # fmt: skip  # as above
        services.responses.save(row)
    other = await start(replica=True)
    assert [adapter.name for adapter in other.registry.list()] == ["far", "legal"]
    assert gone.is_dir()
    assert other.responses.load("resp_1", LOCAL).status == "in_progress"
    assert other.responses.load("resp_dead", LOCAL).status == "failed"  # so old that nobody can be at it
    folder = other.registry.path(version)
    await other.slots.retire(other.registry.remove("legal"))
    assert folder.is_dir()  # an answer of the first one may still be made from it


@pytest.mark.parametrize("replica", [True, False])
def test_a_replica_installs_no_demo(replica: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would come back into each new data directory, whatever its owner has removed."""
    done: list[str] = []
    monkeypatch.setattr(boot, "install_demo", lambda *_, **__: done.append("demo"))
    monkeypatch.setattr(boot, "demo_documents", lambda _: None)
    monkeypatch.setattr(boot, "fail_interrupted", lambda _: done.append("responses"))
    registry = SimpleNamespace(recover=lambda *, alone: done.append(f"registry, alone: {alone}"))
    demo = Settings(data_dir=tmp_path).model_copy(update={"replica": replica})
    parts: Any = SimpleNamespace(settings=demo, registry=registry, intake=None, assistants=None)
    boot.put_in_order(parts)
    assert done == [f"registry, alone: {not replica}", "responses", *(() if replica else ("demo",))]


async def test_the_fake_engine_needs_no_model(settings: Settings) -> None:
    assert isinstance(await boot.start_engine(settings.model_copy(update={"engine": "fake"})), FakeEngine)


def test_a_folder_is_read_where_it_lies(settings: Settings) -> None:
    assert boot.model_folder(settings) == Path(settings.model)


def test_nothing_is_compiled_on_a_cpu_unless_it_was_asked_for(settings: Settings) -> None:
    assert boot.engine_environment(settings, "cpu")["TORCH_COMPILE_DISABLE"] == "1"
    assert "TORCH_COMPILE_DISABLE" not in boot.engine_environment(settings, "cpu", ["--no-enforce-eager"])
    asked = settings.model_copy(update={"vllm_args": "--max-num-seqs 4 --no-enforce-eager"})
    assert "TORCH_COMPILE_DISABLE" not in boot.engine_environment(asked, "cpu")
    assert "TORCH_COMPILE_DISABLE" not in boot.engine_environment(settings, "cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_message_may_have_more_stop_sequences_than_openai_s_four(settings: Settings, device: str) -> None:
    assert boot.engine_environment(settings, device)["VLLM_MAX_STOP_STRINGS"] == "16"


def test_the_cache_on_a_cpu_is_told_in_whole_gibibytes(settings: Settings) -> None:
    told = boot.engine_environment(settings.model_copy(update={"kv_cache_gib": 3}), "cpu")
    assert told["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert "VLLM_CPU_KVCACHE_SPACE" not in boot.engine_environment(settings, "cuda")
