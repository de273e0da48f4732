"""Before the engine is there: alive, not ready, and a 503 that says when to come back."""

from __future__ import annotations

import base64
import hashlib
import re

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


async def test_a_browser_sees_a_page_that_asks_again(booting: Booting) -> None:
    answer = await _get(booting, "/")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["retry-after"]) >= 1
    page = answer.text
    assert '<meta http-equiv="refresh" content="' in page
    assert "The model is being loaded" in page
    assert "O modelo está sendo carregado" in page


async def test_the_page_has_all_that_it_needs_within_a_policy(booting: Booting) -> None:
    answer = await _get(booting, "/")
    assert not re.search(r"src=|href=|url\(|style=|\son\w+=", answer.text)
    allowed = []
    for kind in ("script", "style"):
        (inline,) = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        allowed.append(f"{kind}-src 'sha256-{digest}'")
    policy = answer.headers["content-security-policy"].split("; ")
    assert policy == ["default-src 'none'", *allowed, "connect-src 'self'", "frame-ancestors 'none'"]


async def test_the_page_is_for_reading_alone(booting: Booting) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=booting), base_url="http://t") as http:
        assert (await http.post("/")).json()["error"]["code"] == "starting"
        assert (await http.head("/")).headers["content-type"].startswith("text/html")


async def test_the_real_application_takes_over(booting: Booting) -> None:
    booting.app = Starlette(routes=[Route("/health", lambda _: PlainTextResponse("real"))])
    assert (await _get(booting, "/health")).text == "real"
