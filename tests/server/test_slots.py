"""Versions in the engine: loaded once, shared, evicted when idle, collected when nothing needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from adapters.adapter import Version
from server.engine.base import EngineAdapter, LoadFailed
from server.engine.fake import FakeEngine
from server.services import Services
from server.slots import Slots
from server.storage.errors import BlobsUnavailable, DatabaseUnavailable

Add = Callable[..., Any]


async def test_requests_for_one_version_share_one_load(services: Services, engine: FakeEngine, add: Add) -> None:
    version = add("legal")
    engine.load_gate.clear()
    async with AsyncExitStack() as stack:
        asking = [asyncio.create_task(stack.enter_async_context(services.slots.hold(version))) for _ in range(5)]
        await asyncio.sleep(0)
        engine.load_gate.set()
        adapters = await asyncio.gather(*asking)
        assert {adapter.engine_name for adapter in adapters} == {version.engine_name}
        assert engine.loads == [version.engine_name]


async def test_a_version_in_use_is_never_taken_away(services: Services, engine: FakeEngine, add: Add) -> None:
    versions = [add(f"a{i}", seed=i) for i in range(5)]
    async with AsyncExitStack() as stack:
        for version in versions[:4]:
            await stack.enter_async_context(services.slots.hold(version))
        waiting = asyncio.create_task(_hold_once(services.slots, versions[4]))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert all(version.engine_name in engine.loaded for version in versions[:4])
    await waiting


async def test_whoever_stops_waiting_makes_room_for_the_next(services: Services, add: Add) -> None:
    versions = [add(f"a{i}", seed=i) for i in range(6)]
    async with AsyncExitStack() as stack:
        for version in versions[:4]:
            await stack.enter_async_context(services.slots.hold(version))
        impatient = asyncio.create_task(_hold_once(services.slots, versions[4]))
        patient = asyncio.create_task(_hold_once(services.slots, versions[5]))
        await asyncio.sleep(0.01)
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
    await patient


async def test_a_failed_load_is_told_to_all_who_wait_and_may_be_tried_again(
    services: Services, engine: FakeEngine, add: Add
) -> None:
    version = add("legal")
    engine.broken_loads.add(version.engine_name)
    results = await asyncio.gather(*(_hold_once(services.slots, version) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, LoadFailed) for result in results)
    engine.broken_loads.clear()
    await _hold_once(services.slots, version)


async def test_pinned_versions_are_loaded_before_ready(services: Services, engine: FakeEngine, add: Add) -> None:
    version = add("legal", pin=True)
    await services.slots.follow_pins()
    await services.slots.pins_are_in()
    assert version.engine_name in engine.loaded


async def test_a_pin_that_cannot_be_loaded_does_not_hold_up_the_start(
    services: Services, engine: FakeEngine, add: Add
) -> None:
    version = add("legal", pin=True)
    engine.broken_loads.add(version.engine_name)
    await services.slots.follow_pins()
    async with asyncio.timeout(2):
        await services.slots.pins_are_in()


async def test_an_old_version_leaves_when_its_last_request_has_ended(
    services: Services, engine: FakeEngine, add: Add
) -> None:
    old = add("legal", seed=1)
    new = add("legal", seed=2, as_version=True)
    async with services.slots.hold(old):
        services.registry.move_alias("legal", new.id)
        await services.slots.follow_pins()
        assert old.engine_name in engine.loaded
    await services.slots.settled()
    assert old.engine_name not in engine.loaded


async def test_claimed_files_stay_until_they_are_given_back(services: Services, add: Add) -> None:
    version = add("legal")
    folder = services.registry.path(version)
    give_back = services.slots.claim(version)
    await services.slots.retire(services.registry.remove("legal"))
    assert folder.is_dir()
    give_back()
    await services.slots.retire([])
    assert not folder.exists()


async def test_an_unload_that_fails_holds_up_nobody(
    services: Services, engine: FakeEngine, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = Slots(engine, services.registry, services.metrics, slots=1, held=1)
    await _hold_once(slots, add("first", seed=1))

    async def fail(adapter: EngineAdapter) -> None:
        raise RuntimeError(f"{adapter.engine_name} sticks")

    monkeypatch.setattr(engine, "unload", fail)
    async with asyncio.timeout(2):
        await _hold_once(slots, add("second", seed=2))
    await slots.close()


async def test_files_that_cannot_be_collected_hold_up_nobody(
    services: Services, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = add("legal", seed=1), add("legal", seed=2, as_version=True)
    await _hold_once(services.slots, old)
    collect = services.registry.collect

    def fail(in_use: object) -> list[str]:
        raise DatabaseUnavailable("busy")

    monkeypatch.setattr(services.registry, "collect", fail)
    services.registry.move_alias("legal", new.id)
    await services.slots.follow_pins()
    async with asyncio.timeout(2):
        await _hold_once(services.slots, new)
    monkeypatch.setattr(services.registry, "collect", collect)


async def test_removing_an_adapter_ends_well_though_its_files_cannot_go(
    services: Services, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add("legal")
    remove = services.blobs.remove

    def fail(key: str) -> None:
        raise BlobsUnavailable("no answer")

    monkeypatch.setattr(services.blobs, "remove", fail)
    services.registry.remove("legal")
    await services.slots.retire([version])
    assert services.blobs.keys("adapters/") == [f"adapters/{version.digest}"]
    monkeypatch.setattr(services.blobs, "remove", remove)
    await services.slots.retire([])
    assert services.blobs.keys("adapters/") == []


async def test_a_pin_that_failed_is_tried_again_at_the_next_change(
    services: Services, engine: FakeEngine, add: Add
) -> None:
    version = add("legal", pin=True)
    engine.broken_loads.add(version.engine_name)
    await services.slots.follow_pins()
    await services.slots.pins_are_in()
    engine.broken_loads.clear()
    await services.slots.follow_pins()
    await services.slots.pins_are_in()
    assert services.slots.occupancy().pinned == (version.engine_name,)
    assert version.engine_name in engine.loaded


async def test_series_of_an_adapter_stay_while_it_has_a_version(services: Services, add: Add) -> None:
    add("legal", seed=1)
    second = add("legal", seed=2, as_version=True)
    services.metrics.finished("legal", "/v1/completions", 200)
    series = 'manyhats_requests_total{adapter="legal"'
    await services.slots.retire([services.registry.remove_version("legal", second.id)])
    assert series in services.metrics.render(b"", str).decode()
    await services.slots.retire(services.registry.remove("legal"))
    assert series not in services.metrics.render(b"", str).decode()


async def test_the_last_use_is_a_request_s_and_goes_with_the_version(
    services: Services, engine: FakeEngine, add: Add
) -> None:
    slots = Slots(engine, services.registry, services.metrics, slots=2, held=2, wall_clock=lambda: 1234.5)
    version = add("a", pin=True)
    await slots.follow_pins()
    await slots.pins_are_in()
    assert slots.last_used_at(version) is None
    await _hold_once(slots, version)
    assert slots.last_used_at(version) == 1234.5
    await slots.retire(services.registry.remove("a"))
    assert slots.last_used_at(version) is None
    await slots.close()


@pytest.mark.parametrize("rounds", [200])
async def test_many_versions_through_few_slots(services: Services, engine: FakeEngine, add: Add, rounds: int) -> None:
    versions: list[Version] = [add(f"a{i}", seed=i) for i in range(20)]

    async def use(version: Version) -> None:
        async with services.slots.hold(version) as adapter:
            assert adapter.engine_name == version.engine_name
            assert version.engine_name in engine.loaded
            await asyncio.sleep(0)
            assert version.engine_name in engine.loaded

    async with asyncio.timeout(20):
        await asyncio.gather(*(use(versions[(i * 7) % 20]) for i in range(rounds)))
    assert not services.slots.occupancy().uses
    assert len(engine.loaded) <= services.settings.held_adapters


async def _hold_once(slots: Slots, version: Version) -> None:
    async with slots.hold(version):
        pass


async def test_loads_and_evictions_are_counted_for_their_adapter(services: Services, add: Add) -> None:
    held = services.settings.held_adapters
    for i in range(held + 1):
        await _hold_once(services.slots, add(f"a{i}", seed=i))
    await services.slots.settled()
    text = services.metrics.render(b"", lambda name: name).decode()
    assert 'manyhats_adapter_evictions_total{adapter="a0"} 1.0' in text
    assert f'manyhats_adapter_load_seconds_count{{adapter="a{held}"}} 1.0' in text
