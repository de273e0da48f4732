"""A response keeps the version that it started with, counts for its adapter, and waits like every other request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from retrieval.errors import SearchFailed
from server import patient_writes
from server.auth import LOCAL
from server.engine.fake import FakeEngine
from server.services import Services
from server.storage.errors import DatabaseUnavailable
from server.storage.responses import INTERRUPTED
from tests.server.citing.answers import objects
from tests.server.test_patient_writes import absent

Add = Callable[..., Any]


async def test_a_version_that_goes_while_the_conversation_is_read_is_not_asked_for(
    services: Services, http: httpx2.AsyncClient, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = add("legal", seed=1), add("legal", seed=2, as_version=True)
    first = (await http.post("/v1/responses", json={"model": "demo", "input": "hi"})).json()["id"]
    conversation = services.responses.conversation

    def move_meanwhile(*asked: Any) -> list[dict[str, Any]]:
        services.registry.move_alias("legal", new.id)
        services.registry.move_alias("legal", traffic={new.id: 1})
        services.registry.remove_version("legal", old.id)
        services.registry.collect(())
        return conversation(*asked)

    monkeypatch.setattr(services.responses, "conversation", move_meanwhile)
    body = {"model": "legal", "input": "go on", "previous_response_id": first}
    answer = await http.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    assert new.engine_name in answer.text


async def test_a_background_response_keeps_its_version_from_the_first_moment(
    services: Services, http: httpx2.AsyncClient, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = add("legal", seed=1), add("legal", seed=2, as_version=True)
    saving, go_on = asyncio.Event(), threading.Event()
    loop, save = asyncio.get_running_loop(), services.responses.save

    def save_slowly(response: Any) -> None:
        loop.call_soon_threadsafe(saving.set)
        assert go_on.wait(5)
        save(response)

    monkeypatch.setattr(services.responses, "save", save_slowly)
    body = {"model": "legal", "input": "hi", "background": True}
    asking = asyncio.create_task(http.post("/v1/responses", json=body))
    await saving.wait()
    services.registry.move_alias("legal", new.id)
    await services.slots.retire([services.registry.remove_version("legal", old.id)])
    go_on.set()
    made = (await asking).json()["id"]
    await services.background.wait(made)
    done = (await http.get(f"/v1/responses/{made}")).json()
    assert done["status"] == "completed", done["error"]
    assert old.engine_name in done["output"][0]["content"][0]["text"]
    await services.slots.settled()
    await services.slots.retire([])
    assert len([*(services.settings.data_dir / "blobs" / "adapters").iterdir()]) == 1


async def test_a_background_request_over_its_limit_is_sent_away_and_not_kept(
    services: Services, http: httpx2.AsyncClient
) -> None:
    _, secret = services.keys.create("ann", requests_per_minute=1)
    headers = {"Authorization": f"Bearer {secret}"}
    body = {"model": "demo", "input": "hi", "background": True}
    first = await http.post("/v1/responses", json=body, headers=headers)
    await services.background.wait(first.json()["id"])
    second = await http.post("/v1/responses", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (200, 429)
    assert "retry-after" in second.headers


@pytest.mark.parametrize("how", [{}, {"stream": True}, {"background": True}])
async def test_a_response_counts_for_its_adapter(
    services: Services, engine: FakeEngine, http: httpx2.AsyncClient, add: Add, how: dict[str, Any]
) -> None:
    add("legal")
    answer = await http.post("/v1/responses", json={"model": "legal", "input": "hi", **how})
    assert answer.status_code == 200
    told = services.metrics.render(b"", str).decode()
    assert 'manyhats_requests_total{adapter="legal",endpoint="/v1/responses",status="200"} 1.0' in told


async def test_what_cannot_be_kept_gives_its_place_back(
    services: Services, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(response: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(services.responses, "save", fail)
    answer = await http.post("/v1/responses", json={"model": "demo", "input": "hi"})
    assert answer.status_code == 500
    assert services.admission.running == 0


ASKING = {"tools": [{"type": "file_search", "vector_store_ids": ["papers"], "ranking_options": {"ranker": "lexical"}}]}


@pytest.mark.parametrize("how", [{}, {"stream": True}, {"background": True}])
async def test_a_failed_search_is_told_in_the_response_and_kept(
    services: Services, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    def fail(*_: object) -> None:
        raise SearchFailed("the index is damaged")

    services.stores.create(LOCAL.owner, name="papers")
    monkeypatch.setattr(services.searcher, "search", fail)
    asked = {"model": "demo", "input": "what do they say?", **ASKING, **how}
    answer = await http.post("/v1/responses", json=asked)
    assert answer.status_code == 200, answer.text
    made = objects(answer.text.split("\n\n"))[-1]["response"] if how.get("stream") else answer.json()
    await services.background.wait(made["id"])
    kept = (await http.get(f"/v1/responses/{made['id']}")).json()
    assert [item["type"] for item in kept["output"]] == ["file_search_call", "message"]
    assert kept["output"][0]["status"] == "failed"
    assert kept["output"][0]["results"] is None
    assert kept["retrieval"]["failed"].startswith("The search failed")
    assert kept["tools"] == ASKING["tools"]


async def test_a_background_request_that_asks_wrongly_is_sent_away_and_not_kept(
    services: Services, http: httpx2.AsyncClient
) -> None:
    wrong = {"type": "file_search", "vector_store_ids": ["papers"], "max_num_results": 0}
    asked = {"model": "demo", "input": "hi", "background": True, "tools": [wrong]}
    answer = await http.post("/v1/responses", json=asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools[0].max_num_results"


async def test_a_background_search_in_a_store_that_is_not_there_fails_the_response(
    services: Services, http: httpx2.AsyncClient
) -> None:
    asked = {"model": "demo", "input": "hi", "background": True, **ASKING}
    made = (await http.post("/v1/responses", json=asked)).json()
    await services.background.wait(made["id"])
    kept = (await http.get(f"/v1/responses/{made['id']}")).json()
    assert kept["status"] == "failed"
    assert kept["error"]["code"] == "vector_store_not_found"


async def test_without_retrieval_a_response_is_the_engine_s_own(http: httpx2.AsyncClient, services: Services) -> None:
    made = (await http.post("/v1/responses", json={"model": "demo", "input": "hi", "retrieval": None})).json()
    assert [item["type"] for item in made["output"]] == ["message"]
    assert "retrieval" not in made
    assert (await http.get(f"/v1/responses/{made['id']}")).json() == made


async def test_a_background_response_outlasts_the_database_s_absence(
    services: Services, http: httpx2.AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient_writes, "AGAIN_SECONDS", 0.0)
    finish = services.responses.finish
    for status in ("in_progress", "completed"):  # gone when it begins, and again when it has ended
        engine.gate.clear()
        monkeypatch.setattr(services.responses, "finish", absent(3, DatabaseUnavailable("gone"), finish))
        made = (await http.post("/v1/responses", json={"model": "demo", "input": "hi", "background": True})).json()
        await engine.asked.wait()
        engine.asked.clear()
        if status == "completed":
            monkeypatch.setattr(services.responses, "finish", absent(3, DatabaseUnavailable("gone"), finish))
        engine.gate.set()
        await services.background.wait(made["id"])
        kept = (await http.get(f"/v1/responses/{made['id']}")).json()
        assert (kept["status"], kept["error"]) == ("completed", None)


@pytest.mark.parametrize("how", ["cancel", "delete"])
async def test_what_ended_before_it_began_is_not_computed(
    services: Services, http: httpx2.AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """By a call to another server, which has no task to stop."""
    save = services.responses.save

    def save_and_end(response: Any) -> None:
        save(response)
        getattr(services.responses, how)(response.id, LOCAL)

    monkeypatch.setattr(services.responses, "save", save_and_end)
    made = (await http.post("/v1/responses", json={"model": "demo", "input": "hi", "background": True})).json()
    await services.background.wait(made["id"])
    assert not engine.calls
    kept = (await http.get(f"/v1/responses/{made['id']}")).json()
    assert kept.get("status") == ("cancelled" if how == "cancel" else None)


async def test_a_server_that_ends_says_so_in_what_it_was_making(
    services: Services, http: httpx2.AsyncClient, engine: FakeEngine
) -> None:
    engine.gate.clear()
    asked = {"model": "demo", "input": "hi", "background": True}
    made = [(await http.post("/v1/responses", json=asked)).json()["id"] for _ in range(3)]
    await engine.asked.wait()
    await http.post(f"/v1/responses/{made[1]}/cancel")
    await http.delete(f"/v1/responses/{made[2]}")
    await services.background.drain(0)
    kept = [(await http.get(f"/v1/responses/{one}")).json() for one in made]
    assert kept[0]["error"] == {"code": "server_error", "message": INTERRUPTED}
    assert [one.get("status") for one in kept] == ["failed", "cancelled", None]
    assert kept[1]["error"] is None


async def test_a_server_that_ends_while_the_database_is_away_does_not_wait_for_it(
    services: Services, http: httpx2.AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.gate.clear()
    made = (await http.post("/v1/responses", json={"model": "demo", "input": "hi", "background": True})).json()
    await engine.asked.wait()
    monkeypatch.setattr(services.responses, "finish", absent(1000, DatabaseUnavailable("gone")))
    async with asyncio.timeout(10):
        await services.background.drain(0)
    assert (await http.get(f"/v1/responses/{made['id']}")).json()["status"] == "in_progress"  # the next start ends it


async def test_null_is_told_as_the_default_it_is(http: httpx2.AsyncClient, services: Services) -> None:
    nulls = dict.fromkeys(["service_tier", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p"])
    asked = {"model": "demo", "input": "hi", "background": True, **nulls}
    made = (await http.post("/v1/responses", json=asked)).json()
    assert made["status"] == "queued"
    assert {name: made[name] for name in nulls if name in made} == {
        "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip  # one field per line would hide that these are all
    await services.background.wait(made["id"])
