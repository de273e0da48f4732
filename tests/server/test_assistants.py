"""What a name means, and what an assistant puts into a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from server.assistants import dress, sticky_key
from server.auth import LOCAL
from server.engine.fake import FakeEngine
from server.services import Services

HELLO: Any = [{"role": "user", "content": "hello"}]
LAWYER = {
    "name": "lawyer",
    "model": "demo",
    "instructions": "Be exact.",
    "temperature": 0.25,
    "examples": [{"user": "Is it due?", "assistant": "Yes."}],
}


async def _sent(client: openai.AsyncOpenAI, engine: FakeEngine, **request: Any) -> dict[str, Any]:
    await client.chat.completions.create(**{"model": "lawyer", "messages": HELLO, **request})
    return engine.calls[-1].body


async def test_instructions_examples_and_defaults_reach_the_engine(
    client: openai.AsyncOpenAI, engine: FakeEngine, services: Services
) -> None:
    services.assistants.create(LAWYER)
    body = await _sent(client, engine)
    assert body["messages"] == [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "Is it due?"},
        {"role": "assistant", "content": "Yes."},
        *HELLO,
    ]
    assert body["temperature"] == 0.25


async def test_the_client_s_system_text_follows_in_one_message_and_its_sampling_wins(
    client: openai.AsyncOpenAI, engine: FakeEngine, services: Services
) -> None:
    services.assistants.create(LAWYER)
    body = await _sent(client, engine, messages=[{"role": "system", "content": "Be brief."}, *HELLO], temperature=0.9)
    assert body["messages"][0] == {"role": "system", "content": "Be exact.\n\nBe brief."}
    assert [message["role"] for message in body["messages"]].count("system") == 1
    assert body["temperature"] == 0.9


@pytest.mark.parametrize("preset", ["auto", {"type": "json_object"}])
async def test_a_preset_form_of_the_answer_is_passed_on_unless_it_is_left_to_the_model(
    client: openai.AsyncOpenAI, engine: FakeEngine, services: Services, preset: Any
) -> None:
    services.assistants.create({**LAWYER, "response_format": preset})
    body = await _sent(client, engine)
    assert body.get("response_format", "left out") == ("left out" if preset == "auto" else preset)


async def test_an_assistant_over_an_adapter_is_found_by_id_and_by_name(
    client: openai.AsyncOpenAI, engine: FakeEngine, services: Services, add: Callable[..., Any]
) -> None:
    version = add("legal")
    made = services.assistants.create({**LAWYER, "model": "legal"})
    for name in (made.id, "lawyer"):
        answer = await client.chat.completions.create(model=name, messages=HELLO)
        assert answer.model == name
        assert engine.calls[-1].adapter is not None
        assert engine.calls[-1].adapter.engine_name == version.engine_name


async def test_responses_and_messages_have_their_own_places(services: Services, engine: FakeEngine) -> None:
    services.assistants.create(LAWYER)
    plan = services.catalogue.plan({"model": "lawyer"}, LOCAL)
    body = await dress({"model": "lawyer", "input": "hi", "instructions": "Be kind."}, plan, "responses", engine)
    assert body["instructions"] == "Be exact.\n\nBe kind."
    assert [turn["content"] for turn in body["input"]] == ["Is it due?", "Yes.", "hi"]
    system = [{"type": "text", "text": "Be kind."}]
    body = await dress({"system": system, "messages": HELLO}, plan, "messages", engine)
    assert body["system"] == "Be exact.\n\nBe kind."
    assert len(body["messages"]) == 3


async def test_a_template_without_system_role_opens_the_first_user_turn(services: Services) -> None:
    engine = FakeEngine()
    object.__setattr__(engine, "facts", _without_system_role(engine))
    services.assistants.create({**LAWYER, "examples": []})
    plan = services.catalogue.plan({"model": "lawyer"}, LOCAL)
    body = await dress({"messages": [{"role": "system", "content": "B."}, *HELLO]}, plan, "chat", engine)
    assert body["messages"] == [{"role": "user", "content": "Be exact.\n\nB.\n\nhello"}]


async def test_examples_go_first_when_room_is_short(services: Services) -> None:
    engine = FakeEngine(context_tokens=400)  # the fake counts bytes
    examples = [{"user": f"question {i} " * 5, "assistant": "yes"} for i in range(10)]
    services.assistants.create({**LAWYER, "examples": examples})
    plan = services.catalogue.plan({"model": "lawyer"}, LOCAL)
    body = await dress({"messages": HELLO, "max_tokens": 20}, plan, "chat", engine)
    assert 2 < len(body["messages"]) < 22
    capped = await dress({"messages": HELLO, "max_tokens": 1000}, plan, "chat", FakeEngine(context_tokens=1000))
    assert 2 < len(capped["messages"]) < 22  # a cap takes half of the context, not all
    assert body["messages"][1]["content"].startswith("question 0")
    assert body["messages"][-1] == HELLO[0]


async def test_a_bare_prompt_has_no_place_for_instructions(client: openai.AsyncOpenAI, services: Services) -> None:
    services.assistants.create(LAWYER)
    with pytest.raises(openai.BadRequestError, match="chat/completions"):
        await client.completions.create(model="lawyer", prompt="hi")


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"prompt_cache_key": "a", "user": "b"}, "a"),
        ({"safety_identifier": "s", "user": "b"}, "s"),
        ({"user": "b", "metadata": {"user_id": "m"}}, "b"),
        ({"metadata": {"user_id": "m"}}, "m"),
        ({"messages": [{"role": "system", "content": "x"}, *HELLO]}, "local:hello"),
        ({"input": "hi"}, "local:hi"),
        ({"prompt": ["a", "b"]}, "local:a"),
        ({"metadata": "odd", "messages": "odd"}, "local:odd"),
    ],
)
def test_what_a_canary_sticks_to(body: dict[str, Any], key: str) -> None:
    assert sticky_key(body, LOCAL) == key


async def test_assistants_over_http(http: httpx2.AsyncClient) -> None:
    made = (await http.post("/v1/assistants", json=LAWYER)).json()
    assert made["object"] == "assistant"
    assert made["id"].startswith("asst_")
    assert (await http.get("/v1/assistants/lawyer")).json() == made
    changed = (await http.post("/v1/assistants/lawyer", json={"instructions": "Be kind."})).json()
    assert changed["instructions"] == "Be kind."
    assert [entry["id"] for entry in (await http.get("/v1/assistants")).json()["data"]] == [made["id"]]
    names = [entry["id"] for entry in (await http.get("/v1/models")).json()["data"]]
    assert "lawyer" in names
    assert (await http.delete(f"/v1/assistants/{made['id']}")).json()["deleted"] is True
    assert (await http.get("/v1/assistants/lawyer")).status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "word", "param"),
    [
        ({"model": "nobody"}, 404, "nobody", "model"),
        ({"model": None}, 400, "model", "model"),
        ({"name": "demo"}, 409, "demo", "name"),
        ({"name": "no spaces"}, 400, "no spaces", "name"),
        ({"temperature": 9}, 400, "temperature", "temperature"),
        ({"examples": [{"user": "only"}]}, 400, "examples", "examples.0.assistant"),
    ],
)
async def test_bad_assistants_are_refused_clearly(
    http: httpx2.AsyncClient, change: dict[str, Any], status: int, word: str, param: str
) -> None:
    answer = await http.post("/v1/assistants", json={**LAWYER, **change})
    assert answer.status_code == status, answer.text
    assert word in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == param


def _without_system_role(engine: FakeEngine) -> Any:
    from dataclasses import replace

    return replace(engine.facts, has_system_role=False)
