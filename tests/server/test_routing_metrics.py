"""A router finds the server that has a request's adapter in memory, whatever name the client calls it by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from adapters.adapter import Adapter, Version
from server import routing_metrics
from server.engine.fake import FakeEngine
from server.routing_metrics import names_of
from server.services import Services
from server.settings import Settings
from server.storage.assistant import Assistant
from tests.server.picker import Seen

Add = Callable[..., Any]
HELLO: Any = [{"role": "user", "content": "hello"}]
ENGINE = (
    b"# HELP vllm:num_requests_running Running.\n"
    b"# TYPE vllm:num_requests_running gauge\n"
    b'vllm:num_requests_running{engine="0",model_name="demo"} 3.0\n'
    b"# HELP vllm:num_requests_waiting Waiting.\n"
    b"# TYPE vllm:num_requests_waiting gauge\n"
    b'vllm:num_requests_waiting{engine="0",model_name="demo"} 2.0\n'
    b"# HELP vllm:kv_cache_usage_perc Usage.\n"
    b"# TYPE vllm:kv_cache_usage_perc gauge\n"
    b'vllm:kv_cache_usage_perc{engine="0",model_name="demo"} 0.25\n'
    b"# HELP vllm:cache_config_info Information.\n"
    b"# TYPE vllm:cache_config_info gauge\n"
    b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="512"} 1.0\n'
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Room for two versions, and one at a time."""
    return Settings(
        engine="fake",
        data_dir=tmp_path / "data",
        adapter_roots=(str(tmp_path / "made"),),
        max_adapters=1,
        max_cpu_adapters=2,
        model_name="demo",
    )


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.measured = ENGINE
    return engine


async def seen(http: httpx2.AsyncClient) -> Seen:
    return Seen.of((await http.get("/metrics/routing")).raise_for_status().text)


async def ask(client: openai.AsyncOpenAI, model: str) -> None:
    await client.chat.completions.create(model=model, messages=HELLO)


async def test_by_every_name_that_was_just_answered(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, services: Services, add: Add
) -> None:
    version = add("legal")
    made = services.assistants.create({"name": "lawyer", "model": "legal"})
    exact = services.assistants.create({"name": "exact", "model": version.id[:-4]})
    names = ("legal", version.id, "lawyer", made.id, "exact", exact.id)
    before = await seen(http)
    assert {before.place(name) for name in names} == {"room"}
    for name in names:
        await ask(client, name)
    after = await seen(http)
    assert {after.place(name) for name in names} == {"there"}
    assert after.place("med") == "room"


async def test_the_base_is_there_always(http: httpx2.AsyncClient, services: Services) -> None:
    services.assistants.create({"name": "plain", "model": "demo"})
    page = await seen(http)
    assert page.place("demo") == page.place("plain") == "there"
    assert page.place("legal") == "room"


async def test_room_is_counted_in_versions_however_many_names_they_have(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, services: Services, add: Add
) -> None:
    for i in range(3):
        add(f"a{i}", seed=i)
        services.assistants.create({"name": f"first-{i}", "model": f"a{i}"})
        services.assistants.create({"name": f"second-{i}", "model": f"a{i}"})
    await ask(client, "first-0")
    assert (await seen(http)).place("a1") == "room"
    await ask(client, "first-1")
    full = await seen(http)
    assert [full.place(f"a{i}") for i in range(3)] == ["there", "there", "full"]
    await ask(client, "a2")
    assert [(await seen(http)).place(f"a{i}") for i in range(3)] == ["full", "there", "there"]


async def test_a_version_on_its_way_in_draws_its_requests_and_one_in_line_is_awaited(
    http: httpx2.AsyncClient, services: Services, engine: FakeEngine, add: Add
) -> None:
    loading, in_line = add("legal", seed=1), add("med", seed=2)
    engine.load_gate.clear()
    async with AsyncExitStack() as stack:
        first = asyncio.create_task(stack.enter_async_context(services.slots.hold(loading)))
        await _turns(2)
        second = asyncio.create_task(_hold_once(services, in_line))
        await _turns(2)
        page = await seen(http)
        assert page.place("legal") == "there"
        assert page.place("med") == "awaited"
        assert page.place("other") == "full"
        assert page.queued == 2 + 2  # for their places, and in the engine's queue
        engine.load_gate.set()
        await first
    await second


async def test_a_name_goes_with_its_alias(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, services: Services, add: Add
) -> None:
    old = add("legal")
    await ask(client, "legal")
    new = add("legal", seed=9, as_version=True)
    assert (await seen(http)).place("legal") == "there"
    services.registry.move_alias("legal", new.id)
    page = await seen(http)
    assert page.place("legal") == "room"
    assert page.place(old.id) == "there"


async def test_what_the_engine_says_of_load_is_passed_on(http: httpx2.AsyncClient) -> None:
    text = (await http.get("/metrics/routing")).text
    page = Seen.of(text)
    assert (page.busy, page.queued, page.cache) == (3, 2, 0.25)
    assert 'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="512"} 1.0' in text
    assert text.count("# TYPE vllm:num_requests_waiting gauge") == 1


async def test_an_engine_that_tells_nothing_is_no_error(http: httpx2.AsyncClient, engine: FakeEngine) -> None:
    engine.measured = b""
    answer = await http.get("/metrics/routing")
    assert answer.status_code == 200
    assert "vllm:num_requests_waiting 0.0" in answer.text


async def test_only_what_is_read_is_asked_of_the_engine(
    http: httpx2.AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measure(names: Collection[str] = ()) -> bytes:
        asked.append(names)
        return ENGINE

    monkeypatch.setattr(engine, "metrics", measure)
    await http.get("/metrics/routing")
    (names,) = asked
    assert set(names) == {line.split()[2].decode() for line in ENGINE.splitlines() if line.startswith(b"# TYPE")}


async def test_it_is_as_open_as_the_other_page(http: httpx2.AsyncClient, services: Services) -> None:
    _, secret = services.keys.create("router")
    assert (await http.get("/metrics/routing")).status_code == 401
    allowed = await http.get("/metrics/routing", headers={"Authorization": f"Bearer {secret}"})
    assert allowed.status_code == 200


async def test_names_that_clients_make_up_are_on_no_page(http: httpx2.AsyncClient, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await ask(client, "made-up")
    assert "made-up" not in (await http.get("/metrics/routing")).text


def version(adapter: str, digit: str) -> Version:
    return Version(
        adapter=adapter, digest=(digit * 64)[:64], lora_id=1, rank=2, size_bytes=1, source="", created_at=0, details={}
    )


def adapter(name: str, *traffic: tuple[str, float]) -> Adapter:
    return Adapter(
        name=name,
        base_fingerprint="",
        base_name="demo",
        created_at=0,
        pinned=False,
        traffic=tuple(((digit * 64)[:64], weight) for digit, weight in traffic),
        previous=None,
        versions=tuple(version(name, digit) for digit, _ in traffic),
        status="ready",
        error=None,
        source="",
    )


def assistant(name: str, model: str) -> Assistant:
    return Assistant(id=f"asst_{name}", name=name, model=model, created_at=0)


def test_a_canary_s_name_is_where_most_of_its_requests_go() -> None:
    canary = adapter("legal", ("a", 9), ("b", 1))
    for digit, names in (("a", ("demo", "legal@aaaaaaaaaaaa", "legal")), ("b", ("demo", "legal@bbbbbbbbbbbb"))):
        found = names_of([canary], [], base_name="demo", ready={f"legal@{digit * 64}"}, waiting=())
        assert found.ready == names


def test_an_ambiguous_prefix_is_no_name_for_either() -> None:
    both, ready = adapter("legal", ("a", 1), ("ab", 1)), {f"legal@{'a' * 64}"}
    people = [assistant("any", "legal@a"), assistant("one", "legal@aa"), assistant("gone", "med@aa")]
    found = names_of([both], people, base_name="demo", ready=ready, waiting=())
    assert {"any", "one", "gone"} & set(found.ready) == {"one"}


def test_a_name_that_means_nothing_yet_and_one_that_names_an_assistant_are_left_out() -> None:
    staging = adapter("legal")
    people = [assistant("x", "demo"), assistant("y", "x"), assistant("z", "legal")]
    found = names_of([staging], people, base_name="demo", ready={f"legal@{'a' * 64}"}, waiting=())
    assert found.ready == ("demo", "x", "asst_x")


def test_the_label_has_an_end_and_assistants_are_the_first_to_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_metrics, "MAX_NAMES", 4)
    many = [assistant(f"x{i}", "legal") for i in range(1000)]
    found = names_of([adapter("legal", ("a", 1))], many, base_name="demo", ready={f"legal@{'a' * 64}"}, waiting=())
    assert found.ready == ("demo", "legal@aaaaaaaaaaaa", "legal", "x0")


def test_a_name_that_would_read_as_two_is_left_out() -> None:
    assert names_of([], [], base_name="/models/a,b", ready=(), waiting=()).ready == ()


async def _turns(n: int) -> None:
    """Of the event loop, in which a task that was just made comes to its first wait."""
    for _ in range(n):
        await asyncio.sleep(0)


async def _hold_once(services: Services, wanted: Version) -> None:
    async with services.slots.hold(wanted):
        pass
