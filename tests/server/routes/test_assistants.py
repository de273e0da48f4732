"""Assistants through the official client: made, changed, listed, removed, and answered by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from server.engine.fake import FakeEngine
from server.services import Services

HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenAI has deprecated its assistants, we not


async def test_made_listed_changed_removed(client: openai.AsyncOpenAI, add: Callable[..., Any]) -> None:
    add("legal")
    made = await client.beta.assistants.create(model="legal", name="lawyer", instructions="Cite.", metadata={"a": "b"})
    assert (made.object, made.model, made.name, made.metadata) == ("assistant", "legal", "lawyer", {"a": "b"})
    assert [one.id async for one in await client.beta.assistants.list()] == [made.id]
    changed = await client.beta.assistants.update("lawyer", instructions="Cite the article.")
    assert (changed.id, changed.instructions, changed.metadata) == (made.id, "Cite the article.", {"a": "b"})
    assert (await client.beta.assistants.retrieve(made.id)).instructions == "Cite the article."
    removed = await client.beta.assistants.delete("lawyer")
    assert (removed.id, removed.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError, match="lawyer"):
        await client.beta.assistants.retrieve("lawyer")


async def test_it_answers_with_its_adapter_and_one_leading_system_message(
    client: openai.AsyncOpenAI, engine: FakeEngine, add: Callable[..., Any]
) -> None:
    version = add("legal")
    await client.beta.assistants.create(model="legal", name="lawyer", instructions="Cite.", temperature=0.25)
    answer = await client.chat.completions.create(model="lawyer", messages=HELLO)
    assert answer.model == "lawyer"
    assert version.engine_name in str(answer.choices[0].message.content)
    sent = engine.calls[-1].body
    assert sent["messages"] == [
        {"role": "system", "content": "Cite.\n\nBe brief."},
        {"role": "user", "content": "hi"},
    ]
    assert sent["temperature"] == 0.25


@pytest.mark.parametrize(
    ("model", "status", "said"),
    [(None, 400, "model"), ("nobody", 404, "nobody"), ("lawyer", 400, "itself an assistant")],
)
async def test_it_stands_on_the_base_or_an_adapter(
    services: Services, http: httpx2.AsyncClient, model: str | None, status: int, said: str
) -> None:
    services.assistants.create({"name": "lawyer", "model": "demo"})
    answer = await http.post("/v1/assistants", json={"name": "second", "model": model})
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


async def test_a_file_s_assistant_is_read_only(services: Services, http: httpx2.AsyncClient, tmp_path: Path) -> None:
    from dataclasses import replace

    from server.app import create_app
    from server.storage.assistants import Assistants

    file = tmp_path / "assistants.yaml"
    file.write_text("- name: guide\n  model: demo\n")
    managed = replace(services, assistants=Assistants(services.database, file=file))
    transport = httpx2.ASGITransport(app=create_app(managed))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as served:
        assert (await served.get("/v1/assistants/guide")).json()["managed"] == "file"
        for answer in (
            await served.post("/v1/assistants/guide", json={"instructions": "x"}),
            await served.delete("/v1/assistants/guide"),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "managed_by_file")


async def test_its_stores_must_be_there(http: httpx2.AsyncClient, services: Services) -> None:
    field = "tool_resources.file_search.vector_store_ids"

    def about(*stores: Any) -> dict[str, Any]:
        return {"model": "demo", "name": "guide", "tool_resources": {"file_search": {"vector_store_ids": list(stores)}}}

    store = services.stores.create("local", name="laws")
    missing = await http.post("/v1/assistants", json=about("laws", "none"))
    error = missing.json()["error"]
    assert (missing.status_code, error["code"], error["param"]) == (404, "vector_store_not_found", f"{field}[1]")
    assert (await http.post("/v1/assistants", json=about(3))).status_code == 400
    made = (await http.post("/v1/assistants", json=about("laws", store.id))).json()
    assert made["tool_resources"] == {"file_search": {"vector_store_ids": ["laws", store.id]}}
    changed = await http.post("/v1/assistants/guide", json={"tool_resources": about("none")["tool_resources"]})
    assert changed.status_code == 404
    assert services.assistants.get("guide").vector_store_ids == ("laws", store.id)


async def test_a_store_is_not_made_on_the_way(http: httpx2.AsyncClient, services: Services) -> None:
    services.assistants.create({"name": "guide", "model": "demo"})
    asking = {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["file-1"]}]}}}
    for path, body in (("/v1/assistants", {"model": "demo", **asking}), ("/v1/assistants/guide", asking)):
        answer = await http.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "tool_resources.file_search.vector_stores")
        assert "make the store first" in error["message"]
