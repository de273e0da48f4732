"""vLLM's errors become ours; frames that are no errors pass untouched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from server.engine.base import EngineRefused, EngineUnavailable
from server.engine.vllm_frames import (
    REFUSED_FIELDS,
    blamed_on_grammar,
    event_usage,
    known_ids,
    mended,
    refusal,
    refused_fields,
    validation_refusal,
    without_nulls,
)

ERROR = 'data: {"error": {"message": "bad", "type": "BadRequestError", "param": "x", "code": 400}}\n\n'
DEAD = 'data: {"error": {"message": "dead", "type": "InternalServerError", "param": null, "code": 503}}\n\n'


@pytest.mark.parametrize("frame", ['data: {"id":"1"}\n\n', "data: [DONE]\n\n", "event: message_stop\ndata: {}\n\n"])
@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_other_frames_pass(frame: str, dialect: str) -> None:
    assert mended(frame, dialect, first=True) is frame


def test_an_error_before_anything_was_sent_keeps_its_status() -> None:
    with pytest.raises(EngineRefused, match="bad") as caught:
        mended(ERROR, "chat", first=True)
    assert (caught.value.status, caught.value.param) == (400, "x")
    with pytest.raises(EngineUnavailable):
        mended(DEAD, "chat", first=True)


def test_a_later_error_has_four_keys() -> None:
    error = json.loads(mended(ERROR, "chat", first=False).removeprefix("data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}


def test_anthropic_s_error_event() -> None:
    frame = 'event: error\ndata: {"type":"error","error":{"type":"internal_error","message":"m"}}\n\n'
    told = json.loads(mended(frame, "messages", first=False).partition("data: ")[2])
    assert told == {"type": "error", "error": {"type": "api_error", "message": "m"}}


@pytest.mark.parametrize("name", sorted(REFUSED_FIELDS))
def test_fields_of_the_server_are_refused_by_name(name: str) -> None:
    with pytest.raises(EngineRefused, match=name):
        refused_fields({name: "x"})
    refused_fields({name: None})


@pytest.mark.parametrize("part", [{"type": "prompt_embeds", "data": "AAAA"}, {"prompt_embeds": {"data": "AAAA"}}])
@pytest.mark.parametrize("field", ["messages", "input"])
def test_embeddings_among_the_parts_of_a_turn_are_refused_too(field: str, part: dict[str, Any]) -> None:
    text = {"type": "text", "text": "prompt_embeds"}
    with pytest.raises(EngineRefused, match="prompt_embeds"):
        refused_fields({field: ["x", {"role": "user", "content": [text, part]}]})
    refused_fields({field: [{"role": "user", "content": [text]}, {"role": "user", "content": "prompt_embeds"}, None]})


@pytest.mark.parametrize("body", [{"echo": True, "logprobs": 0}, {"echo": True, "messages": []}])
def test_log_probabilities_of_the_prompt_are_refused_under_their_other_name(body: dict[str, Any]) -> None:
    with pytest.raises(EngineRefused, match="echo"):
        refused_fields(body)
    refused_fields({"echo": True, "prompt": "x"})


def test_a_refusal_keeps_kind_by_status() -> None:
    error: Any = refusal({"code": 404, "message": "gone"})
    assert (error.status, error.kind) == (404, "not_found_error")


def test_the_first_problem_of_a_body_is_told_with_its_path() -> None:
    class Body(BaseModel):
        messages: list[dict[str, int]]

    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"messages": "x"})
    error = validation_refusal(caught.value)
    assert error.param == "messages"
    assert error.message.startswith("messages: ")


def test_usage_in_every_dialect_s_words() -> None:
    for usage in ({"prompt_tokens": 3, "completion_tokens": 2}, {"input_tokens": 3, "output_tokens": 2}):
        counted = event_usage(usage)
        assert (counted.prompt_tokens, counted.completion_tokens) == (3, 2)
    assert event_usage(None).prompt_tokens == 0


@pytest.mark.parametrize("tokens", [[4096], [0, -1]])
def test_ids_that_no_token_has_are_refused(tokens: list[int]) -> None:
    known_ids([0, 4095], 4096)
    with pytest.raises(EngineRefused, match="4096"):
        known_ids(tokens, 4096)


def test_a_failure_under_a_prescribed_form_is_the_request_s() -> None:
    failed = EngineRefused("Internal server error", status=500, kind="server_error")
    form = {"structured_outputs": {"grammar": "root ::= root"}}
    told = blamed_on_grammar(failed, form)
    assert (told.status, told.kind, told.param) == (400, "invalid_request_error", "structured_outputs")
    for free in ({"response_format": None}, {"response_format": {"type": "text"}}, {"text": {"verbosity": "low"}}):
        assert blamed_on_grammar(failed, free) is failed
    other = EngineRefused("too long")
    assert blamed_on_grammar(other, form) is other


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_numbers_beyond_64_bits_are_refused_by_name(value: int) -> None:
    refused_fields({"top_k": 2**64 - 1, "seed": -(2**63)})
    with pytest.raises(EngineRefused, match="too large") as refused:
        refused_fields({"top_k": value})
    assert refused.value.param == "top_k"


@pytest.mark.parametrize("name", ["response_format", "structured_outputs", "tools"])
def test_a_form_that_would_take_minutes_to_compile_is_refused(name: str) -> None:
    refused_fields({name: {"json": {"properties": {f"p{i}": {} for i in range(100)}}}})
    with pytest.raises(EngineRefused, match="characters"):
        refused_fields({name: {"json": {"properties": {f"p{i}": {} for i in range(9000)}}}})


@pytest.mark.parametrize("value", ["x", ["x"], 7, True, False])
def test_a_prescribed_form_that_is_no_object_is_refused(value: Any) -> None:
    """vLLM's validator calls its `get`, so that it was a 500."""
    with pytest.raises(EngineRefused, match="an object") as refused:
        refused_fields({"structured_outputs": value})
    assert (refused.value.status, refused.value.param) == (400, "structured_outputs")
    refused_fields({"structured_outputs": {"choice": ["yes"]}})
    refused_fields({"structured_outputs": None})


def test_at_most_four_strings_stop_an_answer() -> None:
    refused_fields({"stop": ["a"] * 4, "stop_sequences": ["a"] * 16})
    refused_fields({"stop": "a long one"})
    with pytest.raises(EngineRefused, match="5 strings; at most 4") as refused:
        refused_fields({"stop": ["a"] * 5})
    assert (refused.value.status, refused.value.param) == (400, "stop")


def test_null_is_the_default_where_openai_says_so() -> None:
    body = {"service_tier": None, "tools": None, "n": None, "max_tokens": None, "top_p": 1, "text": {"format": None}}
    assert without_nulls(body, "responses") == {"top_p": 1, "text": {"format": None}}
    assert without_nulls(body, "completions") == {"max_tokens": None, "top_p": 1, "text": {"format": None}}
    for dialect in ("chat", "messages"):
        assert without_nulls(body, dialect) == body
