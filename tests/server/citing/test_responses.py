"""Responses: the search is output item 0, events are in OpenAI's order, and every place tells the same citations."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from server.citing import cite_body
from server.citing.responses import with_results, without_results
from tests.server.citing.answers import bibliography, cited, frame, objects

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def response(text: str | None, *, more: tuple[dict[str, Any], ...] = (), status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "demo", "status": status,
        "output": [] if text is None else [*more, item], "tools": [], "tool_choice": "auto",
        "parallel_tool_calls": True, "metadata": {},
    }  # fmt: skip  # one field per line would hide the shape


def stream(*pieces: str, last: str = "completed") -> list[str]:
    """As vLLM sends it, with reasoning before the message."""
    text = "".join(pieces)
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "["}]}
    whole = response(text, more=(reasoning,))
    item = whole["output"][1]
    thought = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    place = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": response(None, status="in_progress")}),
        ("in_progress", {"response": response(None, status="in_progress")}),
        ("output_item.added", {"output_index": 0, "item": {**reasoning, "content": []}}),
        ("reasoning_text.delta", {**thought, "delta": "[1]"}),
        ("reasoning_text.done", {**thought, "text": "[1]"}),
        ("output_item.done", {"output_index": 0, "item": reasoning}),
        ("output_item.added", {"output_index": 1, "item": {**item, "content": []}}),
        ("content_part.added", {**place, "part": {"type": "output_text", "text": "", "annotations": []}}),
        *(("output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in pieces),
        ("output_text.done", {**place, "text": text, "logprobs": []}),
        ("content_part.done", {**place, "part": item["content"][0]}),
        ("output_item.done", {"output_index": 1, "item": item}),
        (last, {"response": {**whole, "status": last}}),
    ]
    return [
        frame({"type": f"response.{kind}", "sequence_number": number, **data}, event=f"response.{kind}")
        for number, (kind, data) in enumerate(events)
    ]


def test_the_search_is_the_first_item_and_texts_have_citations() -> None:
    answer = cite_body("responses", response("Sky [1]. Grass [3]."), bibliography())
    call, message = answer["output"]
    assert call["id"].startswith("fs_")
    assert {**call, "id": ""} == {
        "id": "",
        "type": "file_search_call",
        "status": "completed",
        "queries": ["what is blue?"],
        "results": None,
    }
    (part,) = message["content"]
    assert part["text"] == "Sky [1]. Grass [3]."
    assert part["annotations"] == [
        {"type": "file_citation", "file_id": "file-1", "filename": "colours-1.pdf", "index": 4},
        {"type": "file_citation", "file_id": "file-3", "filename": "colours-3.pdf", "index": 15},
    ]
    assert answer["retrieval"]["cited"] == [1, 3]
    parsed = Response.model_validate(answer)
    assert parsed.output_text == "Sky [1]. Grass [3]."


def test_what_was_found_is_shown_only_where_it_was_asked_for() -> None:
    plain = cite_body("responses", response("Sky [1]."), bibliography())
    shown = cite_body("responses", response("Sky [1]."), bibliography(results=True))
    assert "The sky is blue." not in str(plain)
    assert shown["output"][0]["results"][0] == {
        "file_id": "file-1",
        "filename": "colours-1.pdf",
        "score": 0.5,
        "text": "The sky is blue.",
        "attributes": {},
    }
    assert len(shown["output"][0]["results"]) == 3
    assert shown["retrieval"]["sources"][0]["text"] == "The sky is blue."


def test_what_is_kept_has_what_was_found_and_what_is_shown_of_it_has_not() -> None:
    given = bibliography()
    answer = cite_body("responses", response("Sky [1]."), given)
    kept = with_results(answer, given)
    assert [found["file_id"] for found in kept["output"][0]["results"]] == ["file-1", "file-2", "file-3"]
    assert [told["cited"] for told in kept["retrieval"]["sources"]] == [True, False, False]
    assert kept["retrieval"]["sources"][1]["text"] == "O céu é azul."
    assert without_results(kept) == answer
    assert without_results(answer) == answer


def test_a_failed_search_says_so() -> None:
    answer = cite_body("responses", response("I cannot say."), bibliography(failure="the index is damaged"))
    assert answer["output"][0]["status"] == "failed"
    assert answer["output"][0]["results"] is None
    assert answer["retrieval"]["failed"] == "the index is damaged"


def test_what_was_not_searched_for_has_no_call() -> None:
    answer = cite_body("responses", response("Hello."), bibliography(skipped="no words"))
    assert [item["type"] for item in answer["output"]] == ["message"]
    assert answer["retrieval"]["skipped"] == "no words"


def test_a_tool_call_stays_as_it_is_behind_the_search() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "[1]"}
    given = {**response(None), "output": [call]}
    answer = cite_body("responses", given, bibliography())
    assert answer["output"][1:] == [call]
    assert answer["retrieval"]["cited"] == []


async def test_events_come_in_openai_s_order_with_new_numbers_and_places() -> None:
    sent = await cited("responses", stream("Sky ", "[", "1", "]. Grass [3]."), bibliography())
    events = objects(sent)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "output_item.done",
        "output_item.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.delta",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["output_index"] for event in events if "output_index" in event] == [0] * 5 + [1] * 4 + [2] * 11
    for event, text in zip(events, sent, strict=True):
        assert text.startswith(f"event: {event['type']}\ndata: ")
        EVENT.validate_python(event, strict=False)
    added, done = events[2]["item"], events[6]["item"]
    assert (added["status"], added["queries"], added["results"]) == ("in_progress", [], None)
    assert (done["status"], done["queries"], done["results"]) == ("completed", ["what is blue?"], None)
    ids = {added["id"], done["id"], *(event["item_id"] for event in events[3:6])}
    assert ids == {events[-1]["response"]["output"][0]["id"]}


async def test_every_place_of_a_stream_tells_the_same_citations() -> None:
    for strip in (False, True):
        sent = await cited("responses", stream("Sky [", "1", "]. Grass ", "[3]", " ["), bibliography(strip=strip))
        events = objects(sent)
        by_type = {event["type"].removeprefix("response."): event for event in events}
        added = [event for event in events if event["type"] == "response.output_text.annotation.added"]
        assert [event["annotation_index"] for event in added] == [0, 1]
        told = [event["annotation"] for event in added]
        text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        assert text == ("Sky. Grass [" if strip else "Sky [1]. Grass [3] [")
        assert [annotation["index"] for annotation in told] == ([3, 10] if strip else [4, 15])
        part = by_type["content_part.done"]["part"]
        assert (part["text"], part["annotations"]) == (text, told)
        assert by_type["output_text.done"]["text"] == text
        assert by_type["output_item.done"]["item"]["content"] == [part]
        last = by_type["completed"]["response"]
        assert [item["type"] for item in last["output"]] == ["file_search_call", "reasoning", "message"]
        assert last["output"][2]["content"] == [part]
        assert last["retrieval"]["cited"] == [1, 3]


async def test_no_event_has_an_empty_piece_of_text() -> None:
    events = objects(await cited("responses", stream("Sky ", "[", "1", "]", "."), bibliography(strip=True)))
    pieces = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert pieces == ["Sky", "."]


async def test_a_failed_search_is_told_in_the_stream() -> None:
    events = objects(await cited("responses", stream("I cannot say."), bibliography(failure="damaged")))
    kinds = [event["type"] for event in events[2:6]]
    assert kinds[:3] == [
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
    ]
    assert kinds[3] == "response.output_item.done"
    assert events[5]["item"]["status"] == "failed"


async def test_a_stream_without_a_search_keeps_its_places() -> None:
    given = stream("Hello.")
    events = objects(await cited("responses", given, bibliography(skipped="no words")))
    before = objects(given)
    assert [event["type"] for event in events] == [event["type"] for event in before]
    assert [event.get("output_index") for event in events] == [event.get("output_index") for event in before]
    assert events[-1]["response"]["retrieval"]["skipped"] == "no words"


@pytest.mark.parametrize("last", ["incomplete", "failed"])
async def test_other_ends_carry_the_search_too(last: str) -> None:
    event = objects(await cited("responses", stream("Sky [1]", last=last), bibliography()))[-1]
    assert event["type"] == f"response.{last}"
    assert event["response"]["output"][0]["type"] == "file_search_call"
