"""The application as a whole: who may do what on every route, and what browsers are told."""

from __future__ import annotations

import re

import httpx2
import pytest
from fastapi.routing import APIRoute

from server.app import ROUTERS, create_app
from server.services import Services

# and what they answer to whoever asks; the address that is made of the last names no file of the console's
OPEN = {"/health": 200, "/ready": 200, "/": 200, "/console/{path:path}": 404}
ADMIN = ("/v1/adapters", "/v1/assistants", "/v1/load_lora_adapter", "/v1/unload_lora_adapter")
STEERING = ("POST", "/v1/fine_tuning")  # looking at jobs is their owner's
ROUTES = sorted(
    (method, route.path)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods - {"HEAD"}
)


def _address(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "x", path)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_but_the_probes_and_the_page_needs_a_key(
    services: Services, http: httpx2.AsyncClient, method: str, path: str
) -> None:
    services.keys.create("ann")
    answer = await http.request(method, _address(path))
    assert answer.status_code == OPEN.get(path, 401), answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [(how, path) for how, path in ROUTES if path.startswith(ADMIN) or (how, path[:15]) == STEERING],
)
async def test_administration_needs_an_admin_key_before_anything_is_read(
    services: Services, http: httpx2.AsyncClient, method: str, path: str
) -> None:
    _, secret = services.keys.create("ann")
    headers = {"Authorization": f"Bearer {secret}"}
    answer = await http.request(method, _address(path), headers=headers, content=b"{" if method == "POST" else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_required")


async def test_no_documentation_pages_and_no_schema(http: httpx2.AsyncClient) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize(("origins", "allowed"), [((), None), (("https://chat.example",), "https://chat.example")])
async def test_other_origins_are_let_in_by_name_only(
    services: Services, origins: tuple[str, ...], allowed: str | None
) -> None:
    from dataclasses import replace

    opened = replace(services, settings=services.settings.model_copy(update={"cors_origins": origins}))
    transport = httpx2.ASGITransport(app=create_app(opened))
    asked = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        answer = await http.options("/v1/chat/completions", headers=asked)
        assert answer.headers.get("access-control-allow-origin") == allowed
        foreign = await http.options("/v1/chat/completions", headers={**asked, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in foreign.headers


async def test_every_answer_has_a_request_id(http: httpx2.AsyncClient) -> None:
    for path in ("/health", "/v1/models", "/nowhere"):
        assert (await http.get(path)).headers["x-request-id"]
    named = await http.get("/health", headers={"X-Request-Id": "mine-1"})
    assert named.headers["x-request-id"] == "mine-1"
