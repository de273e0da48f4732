"""PostgreSQL is killed under a running server, and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.base_model import BaseModel
from retrieval.embedding import Embedder
from server import agreement
from tests.postgresql import Server
from tests.retrieval.shelf import Clock
from tests.server.replicas import Replica, replica, until

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    with postgresql.fresh() as url:
        yield url
        if not postgresql.is_running:
            postgresql.start()


async def test_known_names_hold_for_a_while_and_everything_comes_back(
    url: str,
    postgresql: Server,
    tmp_path: Path,
    base: BaseModel,
    embedder: Embedder,
    make_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agreement, "FOLLOW_SECONDS", 0.05)
    clock = Clock()
    async with replica(url, tmp_path, base=base, embedder=embedder, clock=clock) as server:
        _, secret = server.services.keys.create("ann", role="admin")
        server.http.headers["Authorization"] = f"Bearer {secret}"
        made = {"name": "legal", "source": str(make_adapter("legal"))}
        assert (await server.http.post("/v1/adapters", json=made)).status_code == 201
        store = (await server.http.post("/v1/vector_stores", json={"name": "docs"})).json()["id"]
        assistant = {"name": "guide", "model": "legal", "tools": [{"type": "file_search"}]}
        assistant["tool_resources"] = {"file_search": {"vector_store_ids": [store]}}
        assert (await server.http.post("/v1/assistants", json=assistant)).status_code == 200

        postgresql.kill()
        await _chat_goes_on(server)
        for answer in await _what_needs_the_database(server, store):
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error"), answer.text
            assert int(answer.headers["retry-after"]) > 0
        assert (await server.http.get("/ready")).status_code == 200

        clock.now += server.services.settings.stale_seconds + 1
        answer = await server.http.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await server.http.get("/ready")).status_code == 503
        assert (await server.http.get("/health")).status_code == 200

        postgresql.start()
        await until(lambda: not server.services.freshness.is_stale())
        await _chat_goes_on(server)
        assert (await server.http.get("/ready")).status_code == 200
        assert (await server.http.get(f"/v1/vector_stores/{store}")).json()["name"] == "docs"  # nothing was lost
        for answer in await _what_needs_the_database(server, store):
            assert answer.status_code < 300, answer.text


async def _chat_goes_on(server: Replica) -> None:
    for model in ("demo", "legal"):
        answer = await server.http.post("/v1/chat/completions", json={**CHAT, "model": model})
        assert answer.status_code == 200, answer.text
    unknown = await server.http.get("/v1/models", headers={"Authorization": "Bearer mh-somebody-else-s"})
    assert unknown.status_code == 401
    assert {"demo", "legal", "guide"} <= {model["id"] for model in (await server.http.get("/v1/models")).json()["data"]}


async def _what_needs_the_database(server: Replica, store: str) -> list[httpx2.Response]:
    upload: Any = {"file": ("rent.txt", b"the rent is due", "text/plain")}
    http = server.http
    return [
        await http.post(f"/v1/vector_stores/{store}/search", json={"query": "rent"}),
        await http.post("/v1/chat/completions", json={**CHAT, "model": "guide"}),
        await http.post("/v1/responses", json={"model": "demo", "input": "hi"}),
        await http.post("/v1/files", data={"purpose": "assistants"}, files=upload),
        await http.post("/v1/vector_stores", json={"name": "more"}),
        await http.post("/v1/assistants", json={"model": "demo"}),
        await http.get("/v1/files"),
        await http.get("/v1/fine_tuning/jobs"),
    ]
