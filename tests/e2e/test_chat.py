"""Chat completions through OpenAI's client: streams, tools, structured outputs, sampling."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    """A JSON object that fits into a short answer."""

    name: str
    age: int


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("model", ["demo", "pirate", "shout", "portugues", "json", "sentimento", "banking", "simples"])
def test_every_demo_model_answers_under_its_name(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=ASK, max_tokens=40, temperature=0)
    assert answer.model == model
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 40


def test_the_demo_s_adapters_are_seen_in_one_answer(client: openai.OpenAI) -> None:
    answers = {
        model: client.chat.completions.create(model=model, messages=ASK, max_tokens=40, temperature=0)
        .choices[0]
        .message.content
        or ""
        for model in ("demo", "pirate", "shout", "portugues", "json")
    }
    assert len(set(answers.values())) == 5, answers
    assert answers["shout"].upper() == answers["shout"]
    assert answers["demo"].upper() != answers["demo"]
    assert isinstance(json.loads(answers["json"]), dict)


@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI, model: str) -> None:
    asked: Any = {"model": model, "messages": ASK, "max_tokens": 24, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {model}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert set(reasons[:-1]) == {None}
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_without_stream_options_there_is_no_usage_chunk(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="demo", messages=ASK, max_tokens=4, stream=True) as stream:
        chunks = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_clients_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="shout", messages=ASK, max_tokens=16) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "choice", [{"type": "function", "function": {"name": "get_weather"}}, "required"], ids=["named", "required"]
)
def test_a_forced_tool_call(client: openai.OpenAI, choice: Any, stream: bool) -> None:
    asked: Any = {
        "model": "demo",
        "messages": [{"role": "user", "content": "What is the weather in Lisbon?"}],
        "tools": [WEATHER],
        "tool_choice": choice,
        "max_tokens": 120,
        "temperature": 0,
    }
    if stream:
        with client.chat.completions.stream(**asked) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**asked).choices[0].message
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    assert call.id
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments.keys() == {"city"}
    assert isinstance(arguments["city"], str)


def test_tools_may_be_used_or_not_and_their_results_are_read(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in Lisbon?"}]
    first = client.chat.completions.create(
        model="demo", messages=messages, tools=[WEATHER], tool_choice="auto", max_tokens=60, temperature=0
    ).choices[0]
    assert first.finish_reason in ("tool_calls", "stop", "length")
    assert first.message.tool_calls or first.message.content
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Lisbon"}'}}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "clear"}'},
    ]
    second = client.chat.completions.create(
        model="demo", messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=30
    ).choices[0]
    assert second.message.content
    assert not second.message.tool_calls


def test_a_json_schema_by_response_format_and_by_the_clients_parser(client: openai.OpenAI) -> None:
    shaped: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    answer = client.chat.completions.create(
        model="demo", messages=ASK, response_format=shaped, max_tokens=80, temperature=0
    )
    assert Person.model_validate_json(answer.choices[0].message.content or "").age in range(1, 100)
    # a free string may be long: the bound is the schema's in the first request, and here a low temperature's
    loose = client.chat.completions.create(
        model="json", messages=ASK, response_format={"type": "json_object"}, max_tokens=80, temperature=0
    )
    assert (loose.choices[0].message.content or "").lstrip().startswith("{")


def test_the_clients_parse_gives_an_object(client: openai.OpenAI) -> None:
    class Coin(BaseModel):
        side: Literal["heads", "tails"]
        clean: bool

    answer = client.chat.completions.parse(model="demo", messages=ASK, response_format=Coin, max_tokens=60)
    assert isinstance(answer.choices[0].message.parsed, Coin)


@pytest.mark.parametrize(
    ("shape", "pattern"),
    [
        ({"regex": "[A-Z]{3}-[0-9]{2}"}, r"[A-Z]{3}-[0-9]{2}"),
        ({"choice": ["red", "green"]}, r"red|green"),
        ({"grammar": 'root ::= "yes" | "no"'}, r"yes|no"),
        ({"json": PERSON}, r'\{"name": ?".*", ?"age": ?\d+\}'),
    ],
    ids=["regex", "choice", "grammar", "json"],
)
@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_structured_outputs(client: openai.OpenAI, model: str, shape: dict[str, Any], pattern: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=ASK, max_tokens=80, extra_body={"structured_outputs": shape}
    )
    assert re.fullmatch(pattern, answer.choices[0].message.content or ""), answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_log_probabilities(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "pirate", "messages": ASK, "max_tokens": 6, "logprobs": True, "top_logprobs": 3}
    if stream:
        with client.chat.completions.create(**asked, temperature=0, stream=True) as chunks:
            parts = [chunk.choices[0].logprobs for chunk in chunks]
        tokens = [token for part in parts if part for token in part.content or []]
    else:
        choice = client.chat.completions.create(**asked, temperature=0).choices[0]
        tokens = list(choice.logprobs.content or []) if choice.logprobs else []
    assert 1 <= len(tokens) <= 6
    for token in tokens:
        assert len(token.top_logprobs) == 3
        best = max(other.logprob for other in token.top_logprobs)
        assert token.logprob == best <= 0  # greedy


def test_n_seed_and_stop(client: openai.OpenAI) -> None:
    asked: Any = {"model": "demo", "messages": ASK, "max_tokens": 16, "temperature": 2, "top_p": 1, "seed": 7, "n": 3}
    first, again = (client.chat.completions.create(**asked).choices for _ in range(2))
    texts = [choice.message.content for choice in first]
    assert [choice.index for choice in first] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert texts == [choice.message.content for choice in again]
    other = client.chat.completions.create(**{**asked, "seed": 8}).choices
    assert texts != [choice.message.content for choice in other]
    whole = client.chat.completions.create(model="demo", messages=ASK, max_tokens=16, temperature=0).choices[0]
    text = whole.message.content or ""
    word = text.split()[2]
    stopped = client.chat.completions.create(
        model="demo", messages=ASK, max_tokens=16, temperature=0, stop=[word]
    ).choices[0]
    assert stopped.message.content == text[: text.index(word)]
    assert stopped.finish_reason == "stop"


def test_the_length_is_kept(client: openai.OpenAI) -> None:
    asked: Any = {"model": "demo", "messages": ASK, "extra_body": {"ignore_eos": True}}
    for limit in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(**asked, **{limit: 5})
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5


def test_system_text_and_parts_of_a_message(client: openai.OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}]
    messages: Any = [{"role": "system", "content": "You are kind."}, {"role": "user", "content": parts}]
    answer = client.chat.completions.create(model="demo", messages=messages, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    plain = client.chat.completions.create(model="demo", messages=ASK, max_tokens=8)
    assert plain.usage is not None
    assert answer.usage.prompt_tokens > plain.usage.prompt_tokens
