"""Responses are created by the engine and kept by us: conversation, background, cancel, owners."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from server.engine.base import EngineRefused
from server.engine.fake import FakeEngine
from server.services import Services


async def test_created_kept_retrieved_deleted(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="demo", input="hi", metadata={"a": "b"})
    assert made.output_text == "the rent is due base"
    kept = await client.responses.retrieve(made.id)
    assert kept.output_text == made.output_text
    assert kept.metadata == {"a": "b"}
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=made.id):
        await client.responses.retrieve(made.id)


async def test_store_false_keeps_nothing(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="demo", input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_a_conversation_is_put_into_the_input(client: openai.AsyncOpenAI, engine: FakeEngine) -> None:
    first = await client.responses.create(model="demo", input="one", instructions="only for the first")
    second = await client.responses.create(model="demo", input="two", previous_response_id=first.id)
    third = await client.responses.create(
        model="demo", input=[{"role": "user", "content": "three"}], previous_response_id=second.id
    )
    assert third.previous_response_id == second.id
    sent = engine.calls[-1].body
    assert "previous_response_id" not in sent
    assert "instructions" not in sent  # OpenAI: instructions are not carried over
    said = [(item["role"], _text(item["content"])) for item in sent["input"]]
    answer = "the rent is due base"
    assert said == [
        ("user", "one"),
        ("assistant", answer),
        ("user", "two"),
        ("assistant", answer),
        ("user", "three"),
    ]


async def test_a_missing_previous_response_is_a_404(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="resp_nothing"):
        await client.responses.create(model="demo", input="x", previous_response_id="resp_nothing")


async def test_a_stream_is_kept_before_its_last_event(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(model="demo", input="hi", stream=True, metadata={"k": "v"})
    kinds, last = [], None
    async for event in stream:
        kinds.append(event.type)
        if event.type == "response.completed":
            last = event.response
            assert (await client.responses.retrieve(last.id)).output_text == last.output_text
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert last is not None
    assert last.metadata == {"k": "v"}


async def test_background_is_queued_then_completed(
    client: openai.AsyncOpenAI, engine: FakeEngine, services: Services
) -> None:
    engine.gate.clear()
    made = await client.responses.create(model="demo", input="hi", background=True)
    assert made.status == "queued"
    await engine.asked.wait()
    assert (await client.responses.retrieve(made.id)).status == "in_progress"
    with pytest.raises(openai.APIStatusError, match="in_progress"):
        await client.responses.create(model="demo", input="x", previous_response_id=made.id)
    engine.gate.set()
    await services.background.wait(made.id)
    done = await client.responses.retrieve(made.id)
    assert (done.status, done.output_text) == ("completed", "the rent is due base")
    assert done.background is True


async def test_a_background_response_can_be_cancelled(
    client: openai.AsyncOpenAI, engine: FakeEngine, services: Services
) -> None:
    engine.gate.clear()
    made = await client.responses.create(model="demo", input="hi", background=True)
    await engine.asked.wait()
    assert (await client.responses.cancel(made.id)).status == "cancelled"
    await services.background.wait(made.id)
    assert engine.aborted
    assert (await client.responses.retrieve(made.id)).status == "cancelled"
    assert services.admission.running == 0


async def test_a_background_failure_is_kept(client: openai.AsyncOpenAI, engine: FakeEngine, services: Services) -> None:
    engine.fails_with = EngineRefused("too long", param="input_tokens")
    made = await client.responses.create(model="demo", input="hi", background=True)
    await services.background.wait(made.id)
    failed = await client.responses.retrieve(made.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.message == "too long"


async def test_only_background_responses_are_cancelled(client: openai.AsyncOpenAI) -> None:
    made = await client.responses.create(model="demo", input="hi")
    with pytest.raises(openai.BadRequestError, match="background"):
        await client.responses.cancel(made.id)


async def test_input_items_are_this_request_s_in_pages(client: openai.AsyncOpenAI) -> None:
    turns: Any = [{"role": "user", "content": f"turn {i}"} for i in range(5)]
    made = await client.responses.create(model="demo", input=turns)
    page = await client.responses.input_items.list(made.id, limit=2, order="asc")
    items = [item async for item in page]
    assert [_text(item.content) for item in items] == [f"turn {i}" for i in range(5)]  # type: ignore[union-attr]  # messages all


async def test_items_of_one_id_are_listed_once_each(http: httpx2.AsyncClient) -> None:
    items = [{"id": given, "role": "user", "content": f"m{i}"} for i, given in enumerate(["msg_a", "msg_a", 5, None])]
    made = (await http.post("/v1/responses", json={"model": "demo", "input": items})).json()
    page = (await http.get(f"/v1/responses/{made['id']}/input_items?order=asc")).json()
    ids = [item["id"] for item in page["data"]]
    assert ids[0] == "msg_a"
    assert len(set(ids)) == 4
    assert all(isinstance(one, str) for one in ids)


async def test_one_owner_s_response_does_not_exist_for_another(services: Services, http: httpx2.AsyncClient) -> None:
    _, ann = services.keys.create("ann")
    _, bob = services.keys.create("bob")
    _, boss = services.keys.create("boss", role="admin")
    made = await http.post("/v1/responses", json={"model": "demo", "input": "hi"}, headers=_key(ann))
    path = f"/v1/responses/{made.json()['id']}"
    assert (await http.get(path, headers=_key(bob))).status_code == 404
    assert (await http.delete(path, headers=_key(bob))).status_code == 404
    assert (await http.get(f"{path}/input_items", headers=_key(bob))).status_code == 404
    assert (await http.get(path, headers=_key(boss))).status_code == 200
    assert (await http.get(path, headers=_key(ann))).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["text"]}, "input[0]"),
        ({}, "input"),
        ({"input": "x", "store": "yes"}, "store"),
        ({"input": "x", "store": False, "background": True}, "store"),
        ({"input": "x", "stream": True, "background": True}, "stream"),
        ({"input": "x", "previous_response_id": 3}, "previous_response_id"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "include": "usage"}, "include"),
    ],
)
async def test_bad_requests_name_the_field(http: httpx2.AsyncClient, body: dict[str, Any], param: str) -> None:
    answer = await http.post("/v1/responses", json={"model": "demo", **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    part = content[0]
    return str(part["text"] if isinstance(part, dict) else part.text)


def _key(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
