"""Anthropic's messages through Anthropic's client."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0}  # which the client no longer knows by name
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_a_message(claude: anthropic.Anthropic, model: str) -> None:
    message = claude.messages.create(model=model, max_tokens=24, messages=ASK, extra_body=GREEDY)
    assert message.type == "message"
    assert message.role == "assistant"
    assert message.model == model
    assert message.content[0].type == "text"
    assert message.content[0].text
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.input_tokens > 5
    assert 0 < message.usage.output_tokens <= 24


def test_a_stream_is_the_whole_message(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "shout", "max_tokens": 24, "messages": ASK, "extra_body": GREEDY}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert final.model == "shout"
    assert [block.model_dump() for block in final.content] == [block.model_dump() for block in whole.content]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_system_text_counts_and_is_read(claude: anthropic.Anthropic) -> None:
    plain = claude.messages.count_tokens(model="demo", messages=ASK)
    counted = claude.messages.count_tokens(model="demo", messages=ASK, system="You are a kind guide.")
    assert counted.input_tokens > plain.input_tokens > 0
    message = claude.messages.create(model="demo", max_tokens=8, messages=ASK, system="You are a kind guide.")
    assert message.usage.input_tokens == counted.input_tokens


def test_a_forced_tool(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(
        model="demo",
        max_tokens=100,
        messages=ASK,
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
        extra_body=GREEDY,
    )
    calls = [block for block in message.content if block.type == "tool_use"]
    assert calls[0].name == "get_weather"
    assert isinstance(calls[0].input, dict)
    assert calls[0].input.keys() == {"city"}
    assert message.stop_reason == "tool_use"


def test_tool_results_are_read(claude: anthropic.Anthropic) -> None:
    call = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Lisbon"}}
    messages: Any = [
        *ASK,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "clear"}]},
    ]
    message = claude.messages.create(model="demo", max_tokens=16, messages=messages, tools=[WEATHER])
    assert message.content
    assert message.usage.input_tokens > 20


def test_stop_sequences(claude: anthropic.Anthropic) -> None:
    asked: Any = {"model": "demo", "max_tokens": 24, "messages": ASK, "extra_body": GREEDY}
    block = claude.messages.create(**asked).content[0]
    assert block.type == "text"
    word = block.text.split()[2]
    stopped = claude.messages.create(**asked, stop_sequences=[word])
    assert stopped.content[0].type == "text"
    assert stopped.content[0].text == block.text[: block.text.index(word)]
    assert stopped.stop_reason == "stop_sequence"
    assert stopped.stop_sequence == word


def test_an_error_is_the_clients_own_exception(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        claude.messages.create(model="nobody", max_tokens=8, messages=ASK)
