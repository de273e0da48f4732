"""From bytes to a version: whole or not at all, and never waiting for another's slow host."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters import remote
from adapters.errors import AdapterNotFound, NameTaken, SourceRefused, SourceTooLarge
from server import patient_writes
from server.intake import Order, from_source, from_upload, is_remote
from server.services import Services
from server.settings import Settings
from server.storage.errors import DatabaseUnavailable
from tests.server.test_patient_writes import absent

Make = Callable[..., Path]
HOST = "https://models.example"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"adapter_sources": (f"{HOST}/",)})


def _zipped(folder: Path) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    buffer.seek(0)
    return buffer


def _staged(services: Services) -> list[Path]:
    return [*(services.settings.data_dir / "blobs" / "staging").iterdir()]


def test_an_upload_and_its_folder_are_one_version(services: Services, make_adapter: Make) -> None:
    folder = make_adapter()
    upload = Order(name="legal", source="upload", stage=from_upload(_zipped(folder)))
    first, created = services.intake.take(upload)
    again, created_again = services.intake.take(Order(name="legal", source=str(folder), stage=from_source(str(folder))))
    assert (created, created_again) == (True, False)
    assert first.digest == again.digest
    assert sorted(path.name for path in services.registry.path(first).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert _staged(services) == []


@pytest.mark.parametrize("content", [b"", b"no archive at all"])
def test_what_is_refused_leaves_neither_a_name_nor_a_file(services: Services, content: bytes) -> None:
    with pytest.raises(SourceRefused, match="pack the adapter"):
        services.intake.take(Order(name="legal", source="upload", stage=from_upload(io.BytesIO(content))))
    with pytest.raises(AdapterNotFound):
        services.registry.get("legal")
    assert _staged(services) == []


def test_an_upload_is_cut_off_at_the_limit(services: Services, make_adapter: Make) -> None:
    archive = _zipped(make_adapter())
    size = archive.getbuffer().nbytes
    intake = replace(services.intake, sources=replace(services.sources, max_bytes=size // 2))
    with pytest.raises(SourceTooLarge):
        intake.take(Order(name="legal", source="upload", stage=from_upload(archive)))
    assert _staged(services) == []


def test_a_cut_adapter_says_how_much_was_lost(services: Services, make_adapter: Make) -> None:
    source = str(make_adapter(rank=8))
    order = Order(name="legal", source=source, stage=from_source(source), convert=True, rank=2)
    version, _ = services.intake.take(order)
    told = version.details["conversion"]
    assert (version.rank, told["rank"]) == (2, 2)
    assert len(told["relative_error"]) == 2
    assert all(0 < error < 1 for error in told["relative_error"].values())


def test_a_version_moves_the_name_only_when_asked(services: Services, add: Callable[..., Any]) -> None:
    first = add("legal", seed=1)
    second = add("legal", seed=2, as_version=True)
    assert services.registry.resolve("legal").digest == first.digest
    third = add("legal", seed=3, as_version=True, activate=True)
    assert services.registry.resolve("legal").digest == third.digest
    assert services.registry.resolve(second.id).digest == second.digest
    with pytest.raises(NameTaken, match="/v1/adapters/legal/versions"):
        add("legal", seed=4)


@pytest.mark.parametrize(
    ("source", "expected"),
    [("/srv/adapters/x", False), ("file:///srv/x", False), ("hf://org/repo", True), ("s3://bucket/x", True)],
)
def test_only_other_hosts_are_answered_later(source: str, expected: bool) -> None:
    assert is_remote(source) is expected


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A host that does not answer before the test's end."""
    answering = threading.Event()

    def fetch(url: str, into: Path, max_bytes: int) -> None:
        assert answering.wait(20)
        raise FileNotFoundError(url)

    monkeypatch.setattr(remote, "fetch", fetch)
    yield answering
    answering.set()


async def test_hosts_that_do_not_answer_hold_up_no_upload(
    services: Services, http: httpx2.AsyncClient, make_adapter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = threading.Event()

    def fetch(url: str, into: Path, max_bytes: int) -> None:
        assert answering.wait(20)
        raise FileNotFoundError(url)

    monkeypatch.setattr(remote, "fetch", fetch)
    for i in range(6):
        begun = await http.post("/v1/adapters", json={"name": f"far-{i}", "source": f"{HOST}/{i}"})
        assert (begun.status_code, begun.json()["status"]) == (202, "staging")
    async with asyncio.timeout(10):
        near = await http.post("/v1/adapters", data={"name": "near"}, files={"file": _zipped(make_adapter())})
    assert near.status_code == 201, near.text
    answering.set()
    await asyncio.gather(*(services.background.wait(f"adapter far-{i}") for i in range(6)))
    assert {services.registry.get(f"far-{i}").status for i in range(6)} == {"failed"}


async def test_a_fetch_that_failed_while_the_database_was_away_says_so_when_it_is_back(
    services: Services, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(url: str, into: Path, max_bytes: int) -> None:
        raise FileNotFoundError(url)

    monkeypatch.setattr(remote, "fetch", fetch)
    monkeypatch.setattr(patient_writes, "AGAIN_SECONDS", 0.0)
    gone = absent(3, DatabaseUnavailable("gone"), services.registry.fail)
    monkeypatch.setattr(services.registry, "fail", gone)
    begun = await http.post("/v1/adapters", json={"name": "far", "source": f"{HOST}/far"})
    assert begun.status_code == 202
    await services.background.wait("adapter far")
    assert services.registry.get("far").status == "failed"  # and its name is not taken for ever


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_server_that_ends_says_so_of_what_it_was_fetching(
    services: Services, http: httpx2.AsyncClient, slow: threading.Event, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    if is_away:
        monkeypatch.setattr(services.registry, "fail", absent(1000, DatabaseUnavailable("gone")))
    await http.post("/v1/adapters", json={"name": "far", "source": f"{HOST}/far"})
    async with asyncio.timeout(10):  # the database is not waited for
        await services.background.drain(0)
    far = services.registry.get("far")
    if is_away:
        assert far.status == "staging"
    else:
        assert (far.status, far.error) == (
            "failed",
            "the server stopped while it fetched this adapter; register it again",
        )


async def test_nothing_is_said_any_more_of_a_name_that_was_removed_while_it_was_fetched(
    services: Services, http: httpx2.AsyncClient, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the next adapter of this name either."""
    order: list[str] = []
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    remove, fail = services.registry.remove, services.registry.fail

    def removed(name: str) -> Any:
        found = remove(name)
        order.append("removed")
        asyncio.run_coroutine_threadsafe(again(), loop).result(20)
        return found

    async def again() -> None:
        services.background.start("adapter far", _nothing(stopped))  # of who took the name at once

    def failed(name: str, error: str) -> None:
        fail(name, error)
        order.append("failed")

    monkeypatch.setattr(services.registry, "remove", removed)
    monkeypatch.setattr(services.registry, "fail", failed)
    await http.post("/v1/adapters", json={"name": "far", "source": f"{HOST}/far"})
    await asyncio.sleep(0)
    assert (await http.delete("/v1/adapters/far")).status_code == 200
    assert order == ["removed", "failed"]  # both before the name can be taken again
    assert (await http.get("/v1/adapters/far")).status_code == 404
    assert services.background.names() == ["adapter far"]
    assert not stopped.is_set()


async def _nothing(stopped: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        stopped.set()
