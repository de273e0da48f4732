"""Probes and metrics as machines ask for them."""

from __future__ import annotations

import threading
from typing import Any

import httpx2
import pytest

from server.engine.fake import FakeEngine
from server.routes import health
from server.services import Services
from server.storage.errors import DatabaseUnavailable


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_probes_by_either_method(http: httpx2.AsyncClient, engine: FakeEngine, method: str) -> None:
    for path in ("/health", "/ready"):
        assert (await http.request(method, path)).status_code == 200
    engine.dead = True
    assert (await http.request(method, "/health")).status_code == 200
    gone = await http.request(method, "/ready")
    assert gone.status_code == 503
    assert gone.headers["retry-after"]


async def test_metrics_come_without_the_database(
    http: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise DatabaseUnavailable("busy")

    monkeypatch.setattr(health, "read_figures", fail)
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert "manyhats_build_info" in answer.text


async def test_metrics_do_not_wait_for_a_slow_database(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(health, "FIGURES_SECONDS", 0.01)
    monkeypatch.setattr(health, "read_figures", lambda *_: over.wait(30))
    try:
        assert "manyhats_build_info" in (await http.get("/metrics")).text
    finally:
        over.set()
