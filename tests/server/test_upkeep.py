"""What has expired ends by itself, with its index; what was left over goes; a failing database is tried again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from retrieval import tables
from retrieval.file import File
from retrieval.files import Files
from retrieval.stores import Stores
from server import upkeep
from server.services import Services
from server.storage.errors import DatabaseUnavailable
from server.upkeep import end_expired, keep_up, sweep_all

FAR = 10_000_000_000.0


def put(services: Services, content: bytes = b"text", **further: Any) -> File:
    with services.files.staging() as folder:
        (folder / "content").write_bytes(content)
        return services.files.add(folder, filename="a.txt", purpose="assistants", owner="local", **further)


def index_folder(services: Services, store_id: str) -> Path:
    folder = services.settings.index_dir / store_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x").write_text("x")
    return folder


def test_what_has_expired_ends(services: Services) -> None:
    file, kept = put(services, expires_seconds=3600), put(services, b"other")
    dying = services.stores.create("local", name="dying", expires_days=1)
    living = services.stores.create("local", name="living")
    indexes = [index_folder(services, store.id) for store in (dying, living)]
    end_expired(services)
    assert services.files.get(file.id, None) == file
    later = replace(
        services,
        files=Files(services.database, services.blobs, max_bytes=10, clock=lambda: FAR),
        stores=Stores(services.database, clock=lambda: FAR),
    )
    end_expired(later)
    assert [one.id for one in services.files.list(None).items] == [kept.id]
    assert services.stores.get(dying.id).status == "expired"
    assert services.stores.get(living.id).status == "completed"
    assert [folder.exists() for folder in indexes] == [False, True]


def test_what_a_killed_process_left_is_swept(services: Services) -> None:
    file = put(services)
    with services.database.write() as connection:
        connection.execute(sa.update(tables.files).values(complete=False, created_at=0.0))
    gone = index_folder(services, "vs_gone")
    sweep_all(services)
    assert services.blobs.keys("files/") == []
    assert not gone.exists()
    with services.database.read() as connection:
        assert connection.execute(sa.select(tables.files.c.id)).first() is None
    assert file.digest


@pytest.mark.parametrize("replica", [True, False])
async def test_beside_others_each_server_sees_to_what_is_left(
    services: Services, monkeypatch: pytest.MonkeyPatch, replica: bool
) -> None:
    """The files of a removed version, and the responses and fetched adapters of a server that died."""
    seen: list[str] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    one = replace(services, settings=services.settings.model_copy(update={"replica": replica}))
    with services.blobs.staging() as folder:
        (folder / "adapter_config.json").write_text("{}")
        services.blobs.commit(folder, f"adapters/{'1' * 64}")
    leftovers = upkeep.leftovers_of(one)
    leftovers.wait_seconds = 0.0
    monkeypatch.setattr(upkeep, "leftovers_of", lambda _: leftovers)
    monkeypatch.setattr(upkeep, "fail_interrupted", lambda _: seen.append("responses"))
    monkeypatch.setattr(upkeep, "fail_stalled", lambda _: seen.append("adapters"))
    monkeypatch.setattr(upkeep, "sweep_all", lambda _: None)

    def expired(_: Services) -> None:
        seen.append("round")
        if seen.count("round") == 2:
            loop.call_soon_threadsafe(done.set)

    monkeypatch.setattr(upkeep, "end_expired", expired)
    monkeypatch.setattr(upkeep, "EXPIRY_SECONDS", 0.0)
    task = asyncio.create_task(keep_up(one))
    await asyncio.wait_for(done.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ("responses" in seen) == ("adapters" in seen) == replica
    assert services.blobs.keys("adapters/") == [f"adapters/{'1' * 64}"] * (not replica)


def test_files_stay_for_longer_than_any_answer_may_be_made_from_them(services: Services) -> None:
    settings = services.settings
    longest = settings.queue_timeout_seconds + settings.request_timeout_seconds + settings.stale_seconds
    assert upkeep.leftovers_of(services).wait_seconds > longest


async def test_it_goes_on_after_a_failure(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "EXPIRY_SECONDS", 0.0)
    again = asyncio.Event()
    loop = asyncio.get_running_loop()
    calls = []

    def fail_once(_: Services) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise DatabaseUnavailable("busy")
        loop.call_soon_threadsafe(again.set)

    monkeypatch.setattr(upkeep, "end_expired", fail_once)
    task = asyncio.create_task(keep_up(services))
    await asyncio.wait_for(again.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "could not be removed" in caplog.text
