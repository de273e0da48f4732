"""What one server changes holds in another one over the same database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.base_model import BaseModel
from retrieval.embedding import Embedder
from server import agreement
from server.engine.fake import FakeEngine
from server.services import Services
from server.settings import Settings
from server.storage.errors import DatabaseUnavailable
from tests.databases import only_postgresql
from tests.retrieval.shelf import chunk, digest
from tests.server.replicas import Replica, replica, until
from tests.server.test_patient_writes import absent

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, database_kind: str) -> None:
    """SQLite is looked at often; on PostgreSQL so seldom that a test that passes was told."""
    monkeypatch.setattr(agreement, "FOLLOW_SECONDS", 0.05 if database_kind == "sqlite" else 600.0)


async def test_whatever_one_changes_holds_in_the_other(
    database_url: str,
    tmp_path: Path,
    base: BaseModel,
    embedder: Embedder,
    make_adapter: Callable[..., Path],
    looks: None,
) -> None:
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(replica(database_url, tmp_path, base=base, embedder=embedder))
            for _ in range(2)
        ]
        await _adapters(one, two, make_adapter)
        await _assistants(one, two)
        await _files(one, two)
        await _keys(one, two)


async def _adapters(one: Replica, two: Replica, make_adapter: Callable[..., Path]) -> None:
    made = {"name": "legal", "source": str(make_adapter("legal", seed=1))}
    first = (await one.http.post("/v1/adapters", json=made)).json()
    await until(lambda: _version(two.services) is not None)
    further = {"source": str(make_adapter("legal", seed=2)), "activate": True}
    answer = await one.http.post("/v1/adapters/legal/versions", json=further)
    assert answer.status_code == 201, answer.text
    await until(lambda: _version(two.services) == _version(one.services) != first["versions"][0]["id"])
    assert (await two.http.post("/v1/chat/completions", json={"model": "legal", **CHAT})).status_code == 200
    await two.http.post("/v1/adapters/legal/alias", json={"version": "previous"})
    await until(lambda: _version(one.services) == first["versions"][0]["id"])


async def _assistants(one: Replica, two: Replica) -> None:
    made = await one.http.post("/v1/assistants", json={"name": "clerk", "model": "legal"})
    assert made.status_code == 200, made.text
    await until(lambda: two.services.assistants.find("clerk") is not None)
    await two.http.post("/v1/assistants/clerk", json={"instructions": "Cite."})
    await until(lambda: getattr(one.services.assistants.find("clerk"), "instructions", None) == "Cite.")
    await one.http.delete("/v1/assistants/clerk")
    await until(lambda: two.services.assistants.find("clerk") is None)


async def _files(one: Replica, two: Replica) -> None:
    """At once, since every search asks the database."""
    store = (await one.http.post("/v1/vector_stores", json={"name": "docs"})).json()["id"]
    upload = {"file": ("rent.txt", b"the rent is due", "text/plain")}
    file = (await one.http.post("/v1/files", data={"purpose": "assistants"}, files=upload)).json()["id"]
    attached = {"file_id": file, "attributes": {"year": 2024}}
    await two.http.post(f"/v1/vector_stores/{store}/files", json=attached)
    _read(one.services)
    for server in (one, two):
        assert await _found(server, store, 2024) == ["the rent is due"]
    changed = await two.http.post(f"/v1/vector_stores/{store}/files/{file}", json={"attributes": {"year": 2025}})
    assert changed.status_code == 200, changed.text
    assert [await _found(one, store, year) for year in (2024, 2025)] == [[], ["the rent is due"]]
    await one.http.delete(f"/v1/files/{file}")
    assert await _found(two, store, 2025) == []


async def _keys(one: Replica, two: Replica) -> None:
    caller, secret = one.services.keys.create("ann", role="admin")
    headers = {"Authorization": f"Bearer {secret}"}
    await until(two.services.keys.any_exist)
    assert (await two.http.get("/v1/models")).status_code == 401
    assert (await two.http.get("/v1/models", headers=headers)).status_code == 200
    one.services.keys.revoke(caller.key_id)
    await until(lambda: two.services.keys.find(secret) is None)
    assert (await two.http.get("/v1/models", headers=headers)).status_code == 401


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
async def test_a_background_response_stops_where_it_is_made_when_another_is_told(
    database_url: str,
    tmp_path: Path,
    base: BaseModel,
    embedder: Embedder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    monkeypatch.setattr(Settings, "is_alone", False)  # SQLite has several servers under Ray
    monkeypatch.setattr(agreement, "STOP_SECONDS", 0.01)
    asked = {"model": "demo", "input": "hi", "background": True}
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(replica(database_url, tmp_path, base=base, embedder=embedder))
            for _ in range(2)
        ]
        engine = one.services.engine
        assert isinstance(engine, FakeEngine)
        engine.gate.clear()
        unwanted, other = [(await one.http.post("/v1/responses", json=asked)).json()["id"] for _ in range(2)]
        await until(lambda: one.services.admission.running == 2)
        unfinished = one.services.responses.unfinished
        monkeypatch.setattr(one.services.responses, "unfinished", absent(3, DatabaseUnavailable("gone"), unfinished))
        if how == "cancelled":
            answer = await two.http.post(f"/v1/responses/{unwanted}/cancel")
            assert answer.json()["status"] == "cancelled"
        else:
            answer = await two.http.delete(f"/v1/responses/{unwanted}")
            assert answer.json()["deleted"]
        await until(lambda: unwanted not in one.services.background.names())
        assert one.services.admission.running == 1
        kept = await one.http.get(f"/v1/responses/{unwanted}")
        assert kept.json().get("status") == ("cancelled" if how == "cancelled" else None)
        engine.gate.set()
        await one.services.background.wait(other)
        assert (await two.http.get(f"/v1/responses/{other}")).json()["status"] == "completed"
        assert caplog.text.count("still wanted") == 1


@only_postgresql
async def test_what_was_not_told_is_found_by_looking(
    database_url: str, tmp_path: Path, base: BaseModel, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "FOLLOW_SECONDS", 0.05)
    monkeypatch.setattr("server.storage.feed.bump", _silent_bump)
    monkeypatch.setattr("server.storage.feed.RECONNECT_SECONDS", 0.0)
    async with replica(database_url, tmp_path, base=base, embedder=embedder) as one:
        await until(lambda: _listeners(one.services) == 1)
        elsewhere = type(one.services.keys)(one.services.database)
        elsewhere.create("ann")
        await until(one.services.keys.any_exist)
        with one.services.database.read() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^LISTEN'")
        _, secret = elsewhere.create("bob")
        await until(lambda: one.services.keys.find(secret) is not None)
        await until(lambda: _listeners(one.services) == 1)  # it listens again


def _silent_bump(connection: sa.Connection, topic: str) -> None:
    from server.storage.tables import feed

    changed = feed.update().where(feed.c.topic == topic).values(generation=feed.c.generation + 1)
    if connection.execute(changed).rowcount == 0:
        connection.execute(feed.insert().values(topic=topic, generation=1))


def _listeners(services: Services) -> int:
    with services.database.read() as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^LISTEN'"
        return int(connection.exec_driver_sql(count).scalar_one())


def _version(services: Services) -> str | None:
    found = [adapter for adapter in services.registry.list() if adapter.name == "legal" and adapter.versions]
    return services.registry.resolve("legal").id if found else None


def _read(services: Services) -> None:
    """What the ingestion process does."""
    from retrieval.queue import Queue
    from retrieval.vectors import Vectors

    text, fingerprint = "the rent is due", services.embedder.fingerprint
    queue = Queue(services.database)
    job = queue.claim("test")
    assert job is not None
    Vectors(services.database).add(fingerprint, {digest(text): services.embedder.embed_documents([text])[0]})
    assert queue.complete(job, [chunk(text)], [[digest(text)]], fingerprint)


async def _found(server: Replica, store: str, year: int) -> list[Any]:
    chosen = {"type": "eq", "key": "year", "value": year}
    answer = await server.http.post(f"/v1/vector_stores/{store}/search", json={"query": "rent", "filters": chosen})
    assert answer.status_code == 200, answer.text
    return [part["text"] for hit in answer.json()["data"] for part in hit["content"]]
