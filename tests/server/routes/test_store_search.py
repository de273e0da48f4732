"""A search waits for its place as a generation does, and gives it back when nobody waits for the search."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from server.app import create_app
from server.auth import LOCAL
from server.services import Services
from server.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(engine="fake", data_dir=tmp_path / "data", max_concurrent_requests=1)


async def test_a_client_that_leaves_while_it_waits_leaves_its_place(services: Services) -> None:
    store = services.stores.create("local")
    said = iter([{"type": "http.request", "body": json.dumps({"query": "rent"}).encode()}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(said)

    async def send(message: Any) -> None:
        return

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/v1/vector_stores/{store.id}/search",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    async with asyncio.timeout(10), services.admission.enter(LOCAL, 1):
        await create_app(services)(scope, receive, send)  # there is no place, so it ends only by leaving
        assert services.admission.waiting == 0
    assert services.admission.running == 0
