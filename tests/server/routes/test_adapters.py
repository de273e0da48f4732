"""Adapters over HTTP: names, statuses, versions, aliases, pins, removal, and vLLM's own two calls."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from server.engine.fake import FakeEngine
from server.services import Services

HELLO: Any = [{"role": "user", "content": "hello"}]
Make = Callable[..., Path]


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"top/{file.name}")
    return buffer.getvalue()


async def _upload(http: httpx2.AsyncClient, name: str, folder: Path, path: str = "/v1/adapters", **fields: str) -> Any:
    return await http.post(path, data={"name": name, **fields}, files={"file": ("a.zip", _zipped(folder))})


async def test_an_upload_is_created_once(http: httpx2.AsyncClient, make_adapter: Make) -> None:
    folder = make_adapter()
    first = await _upload(http, "legal", folder)
    assert first.status_code == 201, first.text
    body = first.json()
    assert body["status"] == "ready"
    assert body["version"]["id"] == f"legal@{body['version']['digest'][:12]}"
    again = await _upload(http, "legal", folder)
    assert again.status_code == 200
    assert again.json()["version"]["id"] == body["version"]["id"]


async def test_other_bytes_under_a_taken_name_are_409_and_point_to_versions(
    http: httpx2.AsyncClient, make_adapter: Make
) -> None:
    await _upload(http, "legal", make_adapter(seed=1))
    other = await _upload(http, "legal", make_adapter(seed=2))
    assert other.status_code == 409
    assert "/v1/adapters/legal/versions" in other.json()["error"]["message"]


async def test_a_folder_in_an_allowed_root_and_one_outside(
    http: httpx2.AsyncClient, make_adapter: Make, tmp_path: Path
) -> None:
    good = await http.post("/v1/adapters", json={"name": "legal", "source": str(make_adapter())})
    assert good.status_code == 201, good.text
    outside = await http.post("/v1/adapters", json={"name": "other", "source": str(tmp_path / "data")})
    assert 400 <= outside.status_code < 500
    assert set(outside.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_version_waits_until_the_alias_moves_and_comes_back(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, make_adapter: Make
) -> None:
    first = (await _upload(http, "legal", make_adapter(seed=1))).json()["version"]
    answer = await _upload(http, "legal", make_adapter(seed=2), "/v1/adapters/legal/versions")
    assert answer.status_code == 201, answer.text
    second = answer.json()["version"]
    assert await _served(client) == first["digest"]
    moved = await http.post("/v1/adapters/legal/alias", json={"version": second["id"]})
    assert moved.json()["traffic"] == {second["id"]: 1}
    assert await _served(client) == second["digest"]
    used = [version["last_used_at"] for version in (await http.get("/v1/adapters/legal")).json()["versions"]]
    assert used[1] >= used[0] > second["created_at"] - 2
    assert second["last_used_at"] is None
    await http.post("/v1/adapters/legal/alias", json={"version": "previous"})
    assert await _served(client) == first["digest"]


async def test_a_canary_splits_by_user_and_stays(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, make_adapter: Make
) -> None:
    first = (await _upload(http, "legal", make_adapter(seed=1))).json()["version"]
    second = (await _upload(http, "legal", make_adapter(seed=2), "/v1/adapters/legal/versions")).json()["version"]
    moved = await http.post("/v1/adapters/legal/alias", json={"traffic": {first["id"]: 70, second["id"]: 30}})
    assert moved.status_code == 200, moved.text
    served = [await _served(client, user=f"user-{i}") for i in range(60)]
    assert 5 <= served.count(second["digest"]) <= 35
    assert served == [await _served(client, user=f"user-{i}") for i in range(60)]


async def test_removal_waits_for_the_last_request_and_takes_the_files(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, services: Services, engine: FakeEngine, add: Any
) -> None:
    version = add("legal")
    folder = services.registry.path(version)
    engine.gate.clear()
    asking = asyncio.create_task(client.chat.completions.create(model="legal", messages=HELLO))
    await engine.asked.wait()
    assert (await http.delete("/v1/adapters/legal")).json()["deleted"] is True
    assert folder.is_dir()
    assert version.engine_name in engine.loaded
    engine.gate.set()
    assert (await asking).choices[0].message.content == f"the rent is due {version.engine_name}"
    await services.slots.settled()
    assert not folder.exists()
    assert version.engine_name not in engine.loaded
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="legal", messages=HELLO)


async def test_pins_stop_one_short_of_the_slots(http: httpx2.AsyncClient, add: Any, engine: FakeEngine) -> None:
    for i in range(4):
        add(f"a{i}", seed=i)
    answers = [await http.post(f"/v1/adapters/a{i}/pin", json={"pinned": True}) for i in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 409]
    assert (await http.post("/v1/adapters/a0/pin", json={"pinned": False})).json()["pinned"] is False
    assert (await http.post("/v1/adapters/a3/pin", json={"pinned": True})).status_code == 200


async def test_a_broken_upload_is_refused_with_its_reason_and_the_engine_never_sees_it(
    http: httpx2.AsyncClient, engine: FakeEngine, make_adapter: Make
) -> None:
    folder = make_adapter()
    (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    answer = await _upload(http, "legal", folder)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["code"]
    assert engine.loads == []
    assert (await http.get("/v1/adapters/legal")).status_code == 404


async def test_conversion_on_upload_reports_its_error(http: httpx2.AsyncClient, make_adapter: Make) -> None:
    answer = await _upload(http, "legal", make_adapter(rank=8), convert='{"rank": 2}')
    assert answer.status_code == 201, answer.text
    version = answer.json()["version"]
    assert version["rank"] == 2
    assert all(0 < error < 1 for error in version["details"]["conversion"]["relative_error"].values())


async def test_vllm_s_runtime_loading_is_the_same_registry(http: httpx2.AsyncClient, make_adapter: Make) -> None:
    request = {"lora_name": "legal", "lora_path": str(make_adapter(seed=1))}
    loaded = await http.post("/v1/load_lora_adapter", json=request)
    assert (loaded.status_code, "Success" in loaded.text) == (200, True)
    again = {"lora_name": "legal", "lora_path": str(make_adapter(seed=2)), "load_inplace": True}
    assert (await http.post("/v1/load_lora_adapter", json=again)).status_code == 200
    assert len((await http.get("/v1/adapters/legal")).json()["versions"]) == 2
    gone = await http.post("/v1/unload_lora_adapter", json={"lora_name": "legal"})
    assert gone.status_code == 200
    assert (await http.get("/v1/adapters/legal")).status_code == 404


async def test_only_admins_change_adapters(http: httpx2.AsyncClient, services: Services) -> None:
    _, secret = services.keys.create("app")
    headers = {"x-api-key": secret}
    for method, path in [
        ("GET", "/v1/adapters"),
        ("POST", "/v1/adapters"),
        ("DELETE", "/v1/adapters/legal"),
        ("POST", "/v1/adapters/legal/alias"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/v1/assistants"),
    ]:
        answer = await http.request(method, path, json={} if method == "POST" else None, headers=headers)
        assert answer.status_code == 403, (method, path, answer.text)


async def test_models_list_names_parent_and_status(
    http: httpx2.AsyncClient, client: openai.AsyncOpenAI, add: Any, services: Services
) -> None:
    version = add("legal")
    entries = {entry["id"]: entry for entry in (await http.get("/v1/models")).json()["data"]}
    assert entries["legal"]["parent"] == "demo"
    assert entries["legal"]["status"] == "ready"
    assert {"demo", "embedder", "all-MiniLM-L6-v2"} <= entries.keys()
    await client.chat.completions.create(model="legal", messages=HELLO)
    assert (await client.models.retrieve("legal")).model_dump()["status"] == "loaded"
    assert (await client.models.retrieve(version.id)).id == version.id
    versions = (await http.get("/v1/models?versions=true")).json()["data"]
    assert version.id in [entry["id"] for entry in versions]
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")


async def test_a_key_sees_only_its_models(http: httpx2.AsyncClient, services: Services, add: Any) -> None:
    add("legal"), add("bank", seed=1)
    _, secret = services.keys.create("app", models=["legal*"])
    headers = {"x-api-key": secret}
    listed = (await http.get("/v1/models", headers=headers)).json()["data"]
    assert [entry["id"] for entry in listed] == ["legal"]
    answer = await http.post("/v1/chat/completions", json={"model": "bank", "messages": HELLO}, headers=headers)
    assert answer.status_code == 404


async def _served(client: openai.AsyncOpenAI, **request: Any) -> str:
    answer = await client.chat.completions.create(model="legal", messages=HELLO, **request)
    return str(answer.choices[0].message.content).rpartition("@")[2]
