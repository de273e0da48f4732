"""The API process: what it refuses to open, what it follows, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.registry import Registry
from server import agreement, app_process, boot
from server.app_process import EXIT_ENGINE_DEAD, listen, refused_start
from server.booting import Booting
from server.engine.fake import FakeEngine
from server.services import Services
from server.settings import Settings
from server.storage import feed
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.errors import DatabaseUnavailable
from server.storage.keys import Keys
from server.supervisor import EXIT_CONFIG
from server.threads import run_in

BODY = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "FOLLOW_SECONDS", 0.02)
    monkeypatch.setattr(app_process, "ENGINE_CHECK_SECONDS", 0.02)
    monkeypatch.setattr(app_process, "LAST_FRAMES_SECONDS", 0.02)


@asynccontextmanager
async def _living(services: Services, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """(HTTP client, the event that says stop, the task that ends with the process's status)."""

    async def started(*_: Any, **__: Any) -> Services:
        return services

    monkeypatch.setattr(boot, "boot", started)
    booting, stopping = Booting(), asyncio.Event()
    life = asyncio.create_task(app_process._live(services.settings, booting, (), stopping))
    await _until(lambda: booting.app is not None)
    transport = httpx2.ASGITransport(app=booting)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        yield http, stopping, life
    stopping.set()
    await life


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  # the process's own loops poll too, and set no event of ours
            await asyncio.sleep(0.01)


async def test_a_dead_engine_ends_the_process(
    services: Services, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _living(services, monkeypatch) as (http, _, life):
        assert (await http.get("/ready")).status_code == 200
        engine.dead = True
        assert (await http.get("/ready")).status_code == 503
        async with asyncio.timeout(10):
            assert await life == EXIT_ENGINE_DEAD


async def test_told_to_stop_it_lets_running_answers_end(
    services: Services, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _living(services, monkeypatch) as (http, stopping, life):
        engine.gate.clear()
        running = asyncio.create_task(http.post("/v1/chat/completions", json=BODY))
        await engine.asked.wait()
        stopping.set()
        await _until(lambda: services.admission.draining)
        late = await http.post("/v1/chat/completions", json=BODY)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
        assert "retry-after" in late.headers
        assert (await http.get("/ready")).status_code == 503
        assert not life.done()
        engine.gate.set()
        assert (await running).status_code == 200
        assert await life == 0
        assert engine.dead  # closed


async def test_what_is_under_way_at_the_end_still_has_threads_and_a_database(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    booting, stopping = Booting(), asyncio.Event()
    seen: list[object] = []

    async def started(*_: Any, **__: Any) -> Services:
        return services

    async def end_serving() -> None:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=booting), base_url="http://x") as late:
            seen.append((await late.get("/v1/adapters")).status_code)
        seen.append(await run_in(services.storage_pool, lambda: "a registration's last step"))

    monkeypatch.setattr(boot, "boot", started)
    life = asyncio.create_task(app_process._live(services.settings, booting, (), stopping, end_serving))
    await _until(lambda: booting.app is not None)
    stopping.set()
    assert await life == 0
    assert seen == [503, "a registration's last step"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        services.storage_pool.submit(list)


async def test_answers_that_take_too_long_do_not_hold_up_the_end(
    services: Services, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = replace(services, settings=services.settings.model_copy(update={"drain_seconds": 0.05}))
    async with _living(hasty, monkeypatch) as (http, stopping, life):
        engine.gate.clear()
        running = asyncio.create_task(http.post("/v1/chat/completions", json=BODY))
        await engine.asked.wait()
        stopping.set()
        async with asyncio.timeout(5):
            assert await life == 0
        engine.gate.set()
        await running


async def test_keys_of_another_process_open_and_close_within_a_second(
    services: Services, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Database(settings.sql_url)
    keys = Keys(elsewhere)
    async with _living(services, monkeypatch) as (http, _, _):
        assert (await http.get("/v1/models")).status_code == 200  # nobody has a key yet
        caller, secret = keys.create("ann", role="admin")
        headers = {"Authorization": f"Bearer {secret}"}
        await _until(services.keys.any_exist)
        assert (await http.get("/v1/models")).status_code == 401
        assert (await http.get("/v1/models", headers=headers)).status_code == 200
        keys.revoke(caller.key_id)
        await _until(lambda: services.keys.find(secret) is None)
        assert (await http.get("/v1/models", headers=headers)).status_code == 401
    elsewhere.close()


async def test_adapters_and_assistants_of_another_process_are_followed(
    services: Services, settings: Settings, engine: FakeEngine, add: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add("legal")
    elsewhere = Database(settings.sql_url)
    registry = Registry(
        elsewhere,
        LocalBlobs(settings.data_dir / "blobs"),
        base_name=services.base.name,
        base_fingerprint=services.base.fingerprint,
        on_write=partial(feed.bump, topic="adapters"),
    )
    async with _living(services, monkeypatch) as (http, _, _):
        registry.set_pinned("legal", True)
        await _until(lambda: version.engine_name in engine.loaded)
        folder = services.registry.path(version)
        registry.set_pinned("legal", False)
        registry.remove("legal")
        await _until(lambda: version.engine_name not in engine.loaded)
        await services.slots.settled()
        assert not folder.exists()
        answer = await http.post("/v1/chat/completions", json={**BODY, "model": "legal"})
        assert answer.status_code == 404
    elsewhere.close()


async def test_a_database_that_is_away_is_told_once_and_followed_again(
    services: Services, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, away = 0, True
    generations = feed.Feed.generations

    def sometimes(self: feed.Feed) -> dict[str, int]:
        nonlocal asked
        asked += 1
        if away:
            raise DatabaseUnavailable("away")
        return generations(self)

    monkeypatch.setattr(feed.Feed, "generations", sometimes)
    elsewhere = Database(settings.sql_url)
    with caplog.at_level(logging.ERROR, "server.agreement"):
        async with _living(services, monkeypatch):
            Keys(elsewhere).create("ann", role="admin")
            await _until(lambda: asked > 3)
            away = False
            await _until(services.keys.any_exist)
    assert len([record for record in caplog.records if "could not be read" in record.message]) == 1
    elsewhere.close()


def test_an_open_address_needs_a_key(tmp_path: Path) -> None:
    settings = Settings(engine="fake", data_dir=tmp_path / "data", host="0.0.0.0")
    assert refused_start(settings) == EXIT_CONFIG
    database = Database(settings.sql_url)
    Keys(database).create("ann")
    database.close()
    assert refused_start(settings) == 0
    assert refused_start(Settings(engine="fake", data_dir=tmp_path / "other")) == 0


def test_a_keys_file_that_is_none_ends_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("- nothing: useful\n")
    settings = Settings(engine="fake", data_dir=tmp_path / "data", api_keys_file=file)
    assert refused_start(settings) == EXIT_CONFIG


def test_a_database_that_does_not_answer_may_be_there_soon(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    settings = Settings(engine="fake", data_dir=tmp_path / "data", database_url=f"sqlite:///{blocker}/x/manyhats.db")  # type: ignore[arg-type]  # a secret from text
    assert refused_start(settings) == 1


def test_a_taken_port_is_an_error_at_once(tmp_path: Path) -> None:
    with listen(Settings(data_dir=tmp_path, port=0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listen(Settings(data_dir=tmp_path, port=port))


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_is_listened_on(tmp_path: Path) -> None:
    with listen(Settings(data_dir=tmp_path, host="::1", port=0)) as sock:
        assert sock.family == socket.AF_INET6


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    code = (
        "import threading, time\n"
        "from server.app_process import leave\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print('told', flush=False)\n"
        "leave(70)\n"
    )
    started = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stdout) == (70, "told\n")
    assert time.monotonic() - started < 50


def test_a_wrong_assistants_file_is_told_before_the_engine_starts(tmp_path: Path) -> None:
    file = tmp_path / "assistants.yaml"
    file.write_text("- {name: clerk, modell: demo}")
    assert refused_start(Settings(engine="fake", data_dir=tmp_path / "data", assistants_file=file)) == EXIT_CONFIG
