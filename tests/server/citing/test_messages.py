"""Anthropic's messages: citations in text blocks, streamed right behind the text that cites."""

from __future__ import annotations

from typing import Any

from anthropic.types import Message

from server.citing import cite_body
from tests.server.citing.answers import bibliography, cited, frame, objects

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "demo",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 0},
}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1]}}
SECOND = {
    "type": "search_result_location",
    "cited_text": "O céu é azul.",
    "title": "colours-2.pdf",
    "source": "https://hats.example/v1/files/file-2/content#page=7",
    "search_result_index": 1,
    "start_block_index": 0,
    "end_block_index": 1,
}


def stream(*pieces: str) -> list[str]:
    """As vLLM sends it, with a tool's call behind the text."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {**TOOL_USE, "input": {}}},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": '{"a": [1]}'},
        },
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]
    return [frame(event, event=event["type"]) for event in events]


def body(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {**MESSAGE, "content": list(blocks), "stop_reason": "end_turn"}


def test_a_text_block_has_one_citation_for_each_source() -> None:
    text = {"type": "text", "text": "Azul [2], sim [2], green [3]."}
    answer = cite_body("messages", body(text, TOOL_USE), bibliography())
    block, tool = answer["content"]
    assert block["text"] == text["text"]
    assert block["citations"][0] == SECOND
    assert [citation["search_result_index"] for citation in block["citations"]] == [1, 2]
    assert tool == TOOL_USE
    assert answer["retrieval"]["cited"] == [2, 3]
    parsed = Message.model_validate(answer).content[0]
    assert parsed.type == "text"
    assert parsed.citations is not None
    assert parsed.citations[0].type == "search_result_location"


def test_a_block_that_cites_nothing_has_no_citations() -> None:
    text = {"type": "text", "text": "I do not know."}
    assert cite_body("messages", body(text), bibliography())["content"] == [text]


async def test_a_citation_comes_right_behind_the_text_that_has_it() -> None:
    given = stream("Azul [", "2", "], sim [2]", ".")
    sent = await cited("messages", given, bibliography())
    events = objects(sent)
    kinds = [event.get("delta", {}).get("type") or event["type"] for event in events]
    assert kinds == [
        "message_start",
        "content_block_start",
        "text_delta",
        "text_delta",
        "text_delta",
        "citations_delta",
        "text_delta",
        "content_block_stop",
        "content_block_start",
        "input_json_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(text.startswith(f"event: {event['type']}\n") for event, text in zip(events, sent, strict=True))
    assert events[5]["delta"]["citation"] == SECOND
    assert events[5]["index"] == 0
    assert len(events[0]["message"]["retrieval"]["sources"]) == 3
    assert "cited" not in events[0]["message"]["retrieval"]
    assert events[-2]["retrieval"] == {"cited": [2]}
    untouched = [text for text, kind in zip(sent, kinds, strict=True) if kind in ("text_delta", "input_json_delta")]
    assert all(text in given for text in untouched)


async def test_markers_are_taken_out_of_a_stream_and_the_rest_comes_before_the_block_ends() -> None:
    events = objects(await cited("messages", stream("Azul ", "[", "2", "] and ["), bibliography(strip=True)))
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta" and event["index"] == 0]
    assert [delta.get("text") or delta["type"] for delta in deltas] == ["Azul", " and", "citations_delta", " ["]


async def test_an_error_goes_through_as_it_is() -> None:
    error = frame({"type": "error", "error": {"type": "api_error", "message": "dead"}}, event="error")
    assert (await cited("messages", [*stream("a")[:3], error], bibliography()))[-1] == error
