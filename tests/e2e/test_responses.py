"""OpenAI's Responses: answered by vLLM, kept by us."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from openai.types.responses import Response

ASK = "What is the capital of France?"
ENDLESS: Any = {"ignore_eos": True}


def _ended(client: openai.OpenAI, response_id: str) -> Response:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        response = client.responses.retrieve(response_id)
        if response.status not in ("queued", "in_progress"):
            return response
        time.sleep(0.02)
    raise AssertionError(f"{response_id} has not ended: {response.status}")


@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_created_retrieved_listed_and_deleted(client: openai.OpenAI, model: str) -> None:
    made = client.responses.create(model=model, input=ASK, max_output_tokens=24, temperature=0)
    assert made.model == model
    assert made.status in ("completed", "incomplete")
    assert made.output_text
    assert made.usage is not None
    assert 0 < made.usage.output_tokens <= 24
    kept = client.responses.retrieve(made.id)
    assert kept.output_text == made.output_text
    items = client.responses.input_items.list(made.id)
    assert [item.content[0].text for item in items.data] == [ASK]  # type: ignore[union-attr]
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=made.id):
        client.responses.retrieve(made.id)


def test_a_stream_ends_with_the_kept_response(client: openai.OpenAI) -> None:
    with client.responses.create(model="shout", input=ASK, max_output_tokens=24, stream=True) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last: Any = events[-1]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == last.response.output_text
    assert last.response.model == "shout"
    assert client.responses.retrieve(last.response.id).output_text == text


def test_a_cut_stream_says_incomplete(client: openai.OpenAI) -> None:
    with client.responses.create(
        model="demo", input=ASK, max_output_tokens=4, stream=True, extra_body=ENDLESS
    ) as stream:
        last: Any = list(stream)[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage.output_tokens == 4


def test_a_conversation_goes_on(client: openai.OpenAI) -> None:
    first = client.responses.create(model="demo", input=ASK, max_output_tokens=16)
    second = client.responses.create(
        model="pirate", input="And of Spain?", previous_response_id=first.id, max_output_tokens=16
    )
    assert second.previous_response_id == first.id
    alone = client.responses.create(model="pirate", input="And of Spain?", max_output_tokens=16)
    assert first.usage is not None
    assert second.usage is not None
    assert alone.usage is not None
    assert second.usage.input_tokens > alone.usage.input_tokens + first.usage.output_tokens
    items = client.responses.input_items.list(second.id)
    assert [item.content[0].text for item in items.data] == ["And of Spain?"]  # type: ignore[union-attr]
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="demo", input="x", previous_response_id="resp_nothing")


def test_in_the_background(client: openai.OpenAI) -> None:
    made = client.responses.create(model="demo", input=ASK, background=True, max_output_tokens=16)
    assert made.status == "queued"
    ended = _ended(client, made.id)
    assert ended.status in ("completed", "incomplete")
    assert ended.output_text
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(client.responses.create(model="demo", input=ASK, max_output_tokens=4).id)


def test_a_background_response_is_cancelled(client: openai.OpenAI) -> None:
    made = client.responses.create(model="demo", input=ASK, background=True, max_output_tokens=1500, extra_body=ENDLESS)
    assert client.responses.cancel(made.id).status == "cancelled"
    assert _ended(client, made.id).status == "cancelled"


def test_instructions_tools_and_shapes(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["n"],
        "additionalProperties": False,
    }
    shaped = client.responses.create(
        model="demo",
        instructions="Answer with a number.",
        input=[{"role": "user", "content": ASK}],
        text={"format": {"type": "json_schema", "name": "number", "schema": schema, "strict": True}},
        max_output_tokens=30,
    )
    assert shaped.output_text.replace(" ", "")[:5] == '{"n":'
    assert shaped.instructions == "Answer with a number."
    tool: Any = {"type": "function", "name": "count", "parameters": schema, "strict": False, "description": "Count."}
    called = client.responses.create(
        model="demo", input=ASK, tools=[tool], tool_choice="required", max_output_tokens=80, temperature=0
    )
    calls = [item for item in called.output if item.type == "function_call"]
    assert calls[0].name == "count"
    assert client.responses.retrieve(called.id).output[0].type == called.output[0].type


def test_what_is_not_stored_is_not_found(client: openai.OpenAI) -> None:
    made = client.responses.create(model="demo", input=ASK, store=False, max_output_tokens=4)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
