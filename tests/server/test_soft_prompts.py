"""Soft prompts in the engine: read once, without a slot, gone when nobody means or uses them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from safetensors.numpy import save_file

from adapters.adapter import Version
from adapters.base_model import BaseModel
from adapters.errors import AdapterNotFound, AdapterRefused
from retrieval.embedding import Embedder
from server.boot import assemble
from server.engine.base import EngineAdapter, LoadFailed
from server.engine.fake import FakeEngine
from server.intake import MixOrder, Order, from_nothing, from_source
from server.services import Services
from server.settings import Settings
from server.soft_prompts import SoftPrompts
from server.storage.database import Database

AddPrompt = Callable[..., Version]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"prompt_tuning": True})


@pytest.fixture
def add_prompt(services: Services, tmp_path: Path) -> AddPrompt:
    """Register a soft prompt the way HTTP does; other seeds are other bytes."""

    def register(name: str, *, seed: int = 0, **order: Any) -> Version:
        folder = tmp_path / "made" / f"{name}-{seed}"
        folder.mkdir(parents=True)
        vectors = np.random.default_rng(seed).standard_normal((4, 16), dtype=np.float32)
        save_file({"prompt_embeddings": vectors}, folder / "adapter_model.safetensors")
        config = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 4, "token_dim": 16}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        source = str(folder)
        version, _ = services.intake.take(Order(name=name, source=source, stage=from_source(source), **order))
        return version

    return register


@pytest.mark.parametrize(("parent", "method"), [("brief", "supervised"), ("legal", "prompt_tuning")])
async def test_training_goes_on_as_it_began(
    services: Services,
    http: httpx2.AsyncClient,
    client: openai.AsyncOpenAI,
    add_prompt: AddPrompt,
    make_adapter: Callable[..., Path],
    parent: str,
    method: str,
) -> None:
    add_prompt("brief")
    source = str(make_adapter("legal"))
    services.intake.take(Order(name="legal", source=source, stage=from_source(source)))
    asked, answered = {"role": "user", "content": "Open?"}, {"role": "assistant", "content": "At nine."}
    lines = (json.dumps({"messages": [asked, answered]}) + "\n").encode()
    file = await client.files.create(file=("lines.jsonl", lines), purpose="fine-tune")
    wanted = {"training_file": file.id, "suffix": "further"}
    other = "supervised" if method == "prompt_tuning" else "prompt_tuning"
    for kind, status in ((method, 400), (other, 200)):
        body = {"model": parent, "method": {"type": kind}, **wanted}
        answer = await http.post("/v1/fine_tuning/jobs", json=body)
        assert answer.status_code == status, answer.text
        if status == 400:
            assert (answer.json()["error"]["param"], services.jobs.counts()) == ("method.type", {})


async def test_requests_for_one_share_one_load(services: Services, engine: FakeEngine, add_prompt: AddPrompt) -> None:
    version = add_prompt("brief")
    assert (version.rank, version.is_soft_prompt, version.n_virtual_tokens) == (0, True, 4)
    assert not services.slots.is_loaded(version)
    held = await asyncio.gather(*(_hold_once(services, version) for _ in range(5)))
    assert {adapter.kind for adapter in held} == {"soft_prompt"}
    assert engine.loads == [version.engine_name]
    assert services.slots.is_loaded(version)
    assert services.slots.last_used_at(version) is not None


async def test_more_at_once_than_there_are_slots(services: Services, engine: FakeEngine, add_prompt: AddPrompt) -> None:
    versions = [add_prompt(f"p{i}", seed=i) for i in range(9)]
    async with AsyncExitStack() as stack:
        for version in versions:
            await stack.enter_async_context(services.slots.hold(version))
        occupancy = services.slots.occupancy()
        assert (len(engine.loaded), occupancy.held, occupancy.loading) == (9, (), None)


async def test_one_that_no_name_means_any_more_goes_with_its_files(
    services: Services, engine: FakeEngine, add_prompt: AddPrompt
) -> None:
    version = add_prompt("brief")
    await _hold_once(services, version)
    path = services.registry.path(version)
    await services.slots.retire(services.registry.remove("brief"))
    assert not engine.loaded
    assert not path.exists()


async def test_one_in_use_is_not_taken_away(services: Services, engine: FakeEngine, add_prompt: AddPrompt) -> None:
    version = add_prompt("brief")
    async with services.slots.hold(version):
        await services.slots.retire(services.registry.remove("brief"))
        assert version.engine_name in engine.loaded
    await services.slots.follow_pins()
    assert not engine.loaded


async def test_only_so_many_are_kept_and_the_latest(
    services: Services, engine: FakeEngine, add_prompt: AddPrompt
) -> None:
    prompts = SoftPrompts(engine, services.registry, kept=2)
    versions = [add_prompt(f"p{i}", seed=i) for i in range(3)]
    for which in (0, 1, 0, 2):
        async with prompts.hold(versions[which]):
            pass
    assert set(engine.loaded) == {versions[0].engine_name, versions[2].engine_name}


async def test_a_load_that_fails_is_told_and_may_be_tried_again(
    services: Services, engine: FakeEngine, add_prompt: AddPrompt
) -> None:
    version = add_prompt("brief")
    engine.broken_loads.add(version.engine_name)
    with pytest.raises(LoadFailed):
        await _hold_once(services, version)
    engine.broken_loads.clear()
    assert (await _hold_once(services, version)).engine_name == version.engine_name


async def test_a_pin_takes_no_slot(services: Services, engine: FakeEngine, add_prompt: AddPrompt) -> None:
    add_prompt("brief", pin=True)
    await services.slots.follow_pins()
    await services.slots.pins_are_in()
    assert services.slots.occupancy().pinned == ()


async def test_it_cannot_be_mixed(services: Services, add_prompt: AddPrompt) -> None:
    for seed, name in enumerate(("brief", "other")):
        add_prompt(name, seed=seed)
    recipe = MixOrder(adapters={"brief": 1, "other": 1}, method="linear", density=1, seed=0)
    with pytest.raises(AdapterRefused, match="soft prompt") as caught:
        services.intake.take(Order(name="mixed", source="mix", stage=from_nothing, mix=recipe))
    assert caught.value.kind == "bad_mix"


async def test_switched_off_again_it_is_told_by_the_setting_s_name(
    services: Services,
    settings: Settings,
    engine: FakeEngine,
    base: BaseModel,
    embedder: Embedder,
    add_prompt: AddPrompt,
) -> None:
    version = add_prompt("brief")
    off = settings.model_copy(update={"prompt_tuning": False})
    again = assemble(off, engine=engine, base=base, embedder=embedder, database=Database(off.sql_url))
    try:
        with pytest.raises(AdapterNotFound, match="MANYHATS_PROMPT_TUNING is off"):
            async with again.slots.hold(version):
                pass
        assert not again.slots.is_loaded(version)
    finally:
        await again.slots.close()
        again.close()


async def _hold_once(services: Services, version: Version) -> EngineAdapter:
    async with services.slots.hold(version) as adapter:
        return adapter
