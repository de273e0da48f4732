"""Before the engine is there: alive, not ready, and a 503 that says when to come back."""

from __future__ import annotations

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.booting import Booting


@pytest.fixture
def booting() -> Booting:
    return Booting()


async def _get(booting: Booting, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=booting), base_url="http://t") as http:
        return await http.get(path)


async def test_alive_but_not_ready(booting: Booting) -> None:
    assert (await _get(booting, "/health")).status_code == 200
    ready = await _get(booting, "/ready")
    assert ready.status_code == 503
    assert int(ready.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("path", "shape"), [("/v1/models", "error"), ("/v1/messages", "type")])
async def test_everything_else_is_a_503_in_its_dialect(booting: Booting, path: str, shape: str) -> None:
    booting.stage = "loading pinned adapters"
    answer = await _get(booting, path)
    assert answer.status_code == 503
    assert shape in answer.json()
    assert "loading pinned adapters" in answer.text
    assert "retry-after" in answer.headers


async def test_the_real_application_takes_over(booting: Booting) -> None:
    booting.app = Starlette(routes=[Route("/health", lambda _: PlainTextResponse("real"))])
    assert (await _get(booting, "/health")).text == "real"
