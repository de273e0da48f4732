"""What /v1/models lists, and to whom."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from adapters.base_model import BaseModel
from server.services import Services

Add = Callable[..., Any]
HELLO = [{"role": "user", "content": "hi"}]


async def _listed(http: httpx2.AsyncClient, **asked: Any) -> dict[str, dict[str, Any]]:
    answer = await http.get("/v1/models", **asked)
    assert answer.status_code == 200, answer.text
    return {entry["id"]: entry for entry in answer.json()["data"]}


async def test_every_name_with_its_parent_and_status(services: Services, http: httpx2.AsyncClient, add: Add) -> None:
    version = add("legal", pin=True)
    services.assistants.create({"name": "lawyer", "model": "legal"})
    services.registry.begin("far", "hf://org/far")
    assert (await _listed(http))["legal"]["status"] == "ready"
    await services.slots.follow_pins()
    await services.slots.pins_are_in()
    models = await _listed(http, params={"versions": "true"})
    shown = {name: (entry["type"], entry["parent"], entry["status"]) for name, entry in models.items()}
    embedder = services.embedder.name
    assert shown == {
        "demo": ("base", None, "loaded"),
        "embedder": ("embedder", None, "loaded"),
        embedder: ("embedder", None, "loaded"),
        "legal": ("adapter", "demo", "loaded"),
        version.id: ("version", "demo", "loaded"),
        "far": ("adapter", "demo", "staging"),
        "lawyer": ("assistant", "legal", "ready"),
    }
    for name in models:
        one = (await http.get(f"/v1/models/{name}")).json()
        assert one["id"] == name


async def test_a_version_whose_files_are_gone_says_so(services: Services, http: httpx2.AsyncClient, add: Add) -> None:
    add("legal", seed=1)
    second = add("legal", seed=2, as_version=True)
    shutil.rmtree(services.registry.path(second))
    services.registry.recover()
    models = await _listed(http, params={"versions": "true"})
    assert models[second.id]["status"] == "failed"
    assert models["legal"]["status"] == "ready"


async def test_another_base_s_adapters_are_not_listed_and_say_why(
    services: Services, http: httpx2.AsyncClient, add: Add, base: BaseModel
) -> None:
    from server.app import create_app
    from server.boot import assemble

    add("legal")
    other = replace(base, fingerprint="0" * 64)
    moved = assemble(
        services.settings.model_copy(update={"model_name": "other"}),
        engine=services.engine,
        base=other,
        embedder=services.embedder,
        database=services.database,
    )
    transport = httpx2.ASGITransport(app=create_app(moved))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as served:
        assert "legal" not in await _listed(served)
        asked = await served.post("/v1/chat/completions", json={"model": "legal", "messages": HELLO})
    assert asked.status_code == 409
    assert "made for base 'demo', this server serves 'other'" in asked.json()["error"]["message"]


async def test_a_permanent_name_is_answered_by_its_version_and_not_listed(
    services: Services, http: httpx2.AsyncClient, add: Add
) -> None:
    version = add("clinica", seed=1)
    add("clinica", seed=2, as_version=True, activate=True)
    name = f"ft:demo::clinica:{version.digest[:12]}"
    assert name not in await _listed(http, params={"versions": "true"})
    entry = (await http.get(f"/v1/models/{name}")).json()
    assert (entry["id"], entry["type"], entry["adapter"]) == (name, "version", "clinica")
    answer = (await http.post("/v1/chat/completions", json={"model": name, "messages": HELLO})).json()
    assert answer["model"] == name
    assert version.engine_name in answer["choices"][0]["message"]["content"]
    unknown = await http.post("/v1/chat/completions", json={"model": "ft:demo::clinica:ffffff", "messages": HELLO})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    other = await http.get(name.replace("demo", "other").join(["/v1/models/", ""]))
    assert (other.status_code, other.json()["error"]["code"]) == (409, "other_base")


async def test_a_right_to_an_adapter_holds_for_its_permanent_names(
    services: Services, http: httpx2.AsyncClient, add: Add
) -> None:
    names = [f"ft:demo::{name}:{add(name, seed=seed).digest[:12]}" for seed, name in enumerate(("mine", "other"))]
    _, secret = services.keys.create("ann", models=["mine"])
    headers = {"Authorization": f"Bearer {secret}"}
    statuses = []
    for name in names:
        asked = {"model": name, "messages": HELLO}
        statuses.append((await http.post("/v1/chat/completions", json=asked, headers=headers)).status_code)
    assert statuses == [200, 404]


@pytest.mark.parametrize("by", ["name", "id"])
async def test_a_right_to_an_assistant_holds_for_its_id_and_not_for_its_adapter(
    services: Services, http: httpx2.AsyncClient, add: Add, by: str
) -> None:
    add("legal")
    assistant = services.assistants.create({"name": "lawyer", "model": "legal"})
    _, secret = services.keys.create("ann", models=["lawyer"])
    headers = {"Authorization": f"Bearer {secret}"}
    assert list(await _listed(http, headers=headers)) == ["lawyer"]
    name = assistant.name if by == "name" else assistant.id
    asked = {"model": name, "messages": HELLO}
    assert (await http.post("/v1/chat/completions", json=asked, headers=headers)).status_code == 200
    assert (await http.get(f"/v1/models/{name}", headers=headers)).status_code == 200
    for hidden in ("legal", "demo"):
        answer = await http.post("/v1/chat/completions", json={**asked, "model": hidden}, headers=headers)
        assert answer.status_code == 404
        assert (await http.get(f"/v1/models/{hidden}", headers=headers)).status_code == 404
