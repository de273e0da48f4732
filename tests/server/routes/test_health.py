"""Probes and metrics as machines ask for them."""

from __future__ import annotations

import httpx2
import pytest

from server.engine.fake import FakeEngine


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_probes_by_either_method(http: httpx2.AsyncClient, engine: FakeEngine, method: str) -> None:
    for path in ("/health", "/ready"):
        assert (await http.request(method, path)).status_code == 200
    engine.dead = True
    assert (await http.request(method, "/health")).status_code == 200
    gone = await http.request(method, "/ready")
    assert gone.status_code == 503
    assert gone.headers["retry-after"]
