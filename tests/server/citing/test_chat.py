"""Chat completions: where the sources stand, in a body and in a stream, and what stays as the engine gave it."""

from __future__ import annotations

import json
from typing import Any

from server.citing import cite_body
from tests.server.citing.answers import bibliography, cited, frame, objects

BASE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "demo"}


def chunk(delta: dict[str, Any], *, finish: str | None = None, index: int = 0, **fields: Any) -> str:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **fields}
    return frame({**BASE, "choices": [choice]})


def stream(*pieces: str) -> list[str]:
    """As vLLM sends it: the role alone, the last piece with the reason, the usage, the end."""
    usage = frame({**BASE, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
    middle = [chunk({"content": piece}) for piece in pieces[:-1]]
    last = chunk({"content": pieces[-1]}, finish="stop")
    return [chunk({"role": "assistant", "content": ""}), *middle, last, usage, "data: [DONE]\n\n"]


def body(*contents: str | None, **message: Any) -> dict[str, Any]:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
        for i, content in enumerate(contents)
    ]
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "demo", "choices": choices, "usage": {}}


def test_a_message_carries_its_annotations_and_the_body_its_sources() -> None:
    given = body("Azul 🦜 [2], green [3].")
    answer = cite_body("chat", given, bibliography())
    message = answer["choices"][0]["message"]
    assert message["content"] == "Azul 🦜 [2], green [3]."
    assert message["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 7,
                "end_index": 10,
                "title": "colours-2.pdf",
                "url": "https://hats.example/v1/files/file-2/content#page=7",
            },
        },
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 18,
                "end_index": 21,
                "title": "colours-3.pdf",
                "url": "https://grass.example/green",
            },
        },
    ]
    retrieval = answer["retrieval"]
    assert retrieval["cited"] == [2, 3]
    assert [told["cited"] for told in retrieval["sources"]] == [False, True, True]
    assert retrieval["sources"][0]["text"] == "The sky is blue."
    assert retrieval["dropped"][0]["reason"] == "room"
    assert given == body("Azul 🦜 [2], green [3]."), "the engine's own object must stay as it was"


def test_choices_have_citations_of_their_own() -> None:
    answer = cite_body("chat", body("green [3]", "blue [1]", "grey"), bibliography())
    told = [choice["message"]["annotations"] for choice in answer["choices"]]
    assert [[a["url_citation"]["title"] for a in annotations] for annotations in told] == [
        ["colours-3.pdf"],
        ["colours-1.pdf"],
        [],
    ]
    assert answer["retrieval"]["cited"] == [3, 1]


def test_a_message_that_calls_a_tool_has_sources_and_no_annotations() -> None:
    calls = [{"id": "call-1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}}]
    given = body(None, tool_calls=calls)
    answer = cite_body("chat", given, bibliography())
    assert answer["choices"] == given["choices"]
    assert answer["retrieval"]["cited"] == []


def test_markers_can_be_taken_out_of_a_message() -> None:
    answer = cite_body("chat", body("It is blue [1]. Sure [2, 3]."), bibliography(strip=True))
    message = answer["choices"][0]["message"]
    assert message["content"] == "It is blue. Sure."
    spans = [(a["url_citation"]["start_index"], a["url_citation"]["end_index"]) for a in message["annotations"]]
    assert spans == [(10, 10), (16, 16), (16, 16)]


def test_brackets_in_a_prescribed_form_are_not_markers() -> None:
    text = '{"rows": [1, 2]}'
    answer = cite_body("chat", body(text), bibliography(strip=True, prescribed=True))
    assert answer["choices"][0]["message"]["content"] == text
    assert answer["choices"][0]["message"]["annotations"] == []
    assert "cited" not in answer["retrieval"], "nobody knows"
    assert "cited" not in answer["retrieval"]["sources"][0]


async def test_a_stream_carries_sources_first_and_citations_with_its_finish_reason() -> None:
    given = stream("It is blue ", "[", "1", "]. Verde", " [3", "].")
    sent = await cited("chat", given, bibliography())
    assert len(sent) == len(given)
    first, *middle, last, _ = objects(sent)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert [told["number"] for told in first["retrieval"]["sources"]] == [1, 2, 3]
    assert "cited" not in first["retrieval"]
    assert "cited" not in first["retrieval"]["sources"][0]
    assert all("retrieval" not in told for told in middle)
    assert sent[1:-3] == given[1:-3], "untouched chunks are the engine's own bytes"
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["choices"][0]["delta"]["content"] == "]."
    spans = [a["url_citation"] for a in last["choices"][0]["delta"]["annotations"]]
    assert [(span["start_index"], span["end_index"]) for span in spans] == [(11, 14), (22, 25)]
    assert last["retrieval"] == {"cited": [1, 3]}
    assert sent[-2:] == given[-2:], "the usage chunk stays last, and no other has empty choices"
    assert all(told["choices"] for told in objects(sent)[:-1])


async def test_a_stream_s_first_chunk_alone_has_the_event_that_shows_sources() -> None:
    first, *others = objects(await cited("chat", stream("blue", " [1]."), bibliography()))
    assert first["event"]["type"] == "source"
    assert all("event" not in told for told in others)


async def test_without_sources_there_is_no_event() -> None:
    sent = objects(await cited("chat", stream("grey"), bibliography(skipped="no words")))
    assert all("event" not in told for told in sent)


async def test_markers_are_taken_out_of_a_stream_whole_and_no_chunk_goes() -> None:
    given = stream("It is blue ", "[", "1", "].", " Sure [", "9", "] [", "2]", "")
    sent = await cited("chat", given, bibliography(strip=True))
    assert len(sent) == len(given)
    texts = [told["choices"][0]["delta"].get("content") for told in objects(sent) if told["choices"]]
    assert texts == ["", "It is blue", "", "", ".", " Sure", "", " [9]", "", ""]
    assert objects(sent)[-2]["retrieval"] == {"cited": [1, 2]}


async def test_what_was_held_back_comes_with_the_finish_reason() -> None:
    head = chunk({"role": "assistant", "content": ""})
    given = [head, chunk({"content": "a list ["}), chunk({}, finish="length"), "data: [DONE]\n\n"]
    sent = objects(await cited("chat", given, bibliography(strip=True)))
    assert [told["choices"][0]["delta"].get("content") for told in sent] == ["", "a list", " ["]


async def test_a_chunk_whose_text_is_held_back_keeps_its_other_fields() -> None:
    logprobs = {"content": [{"token": " [", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    given = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": " ["}, logprobs=logprobs),
        chunk({"content": "1]"}, finish="stop"),
    ]
    sent = objects(await cited("chat", given, bibliography(strip=True)))
    assert sent[1]["choices"][0]["delta"]["content"] == ""
    assert sent[1]["choices"][0]["logprobs"] == logprobs


async def test_choices_of_a_stream_have_markers_of_their_own() -> None:
    given = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"role": "assistant", "content": ""}, index=1),
        chunk({"content": "green ["}),
        chunk({"content": "blue [1"}, index=1),
        chunk({"content": "3]"}, finish="stop"),
        chunk({"content": "]"}, index=1, finish="stop"),
        "data: [DONE]\n\n",
    ]
    sent = objects(await cited("chat", given, bibliography()))
    assert [("retrieval" in told) for told in sent] == [True, False, False, False, True, True]
    titles = [[a["url_citation"]["title"] for a in told["choices"][0]["delta"]["annotations"]] for told in sent[-2:]]
    assert titles == [["colours-3.pdf"], ["colours-1.pdf"]]
    assert [told["retrieval"]["cited"] for told in sent[-2:]] == [[3], [3, 1]]


async def test_a_streamed_tool_call_and_reasoning_go_through_as_they_are() -> None:
    call = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "f", "arguments": "[1]"}}
    given = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning": "source [1] says"}),
        chunk({"tool_calls": [call]}),
        chunk({}, finish="tool_calls"),
        "data: [DONE]\n\n",
    ]
    sent = await cited("chat", given, bibliography(strip=True))
    assert sent[1:3] == given[1:3]
    last = objects(sent)[-1]
    assert last["choices"][0]["delta"] == {}
    assert last["retrieval"] == {"cited": []}


async def test_an_error_in_a_stream_stays_as_it_is() -> None:
    given = [chunk({"role": "assistant", "content": ""}), frame({"error": {"message": "dead"}}), "data: [DONE]\n\n"]
    sent = await cited("chat", given, bibliography())
    assert sent[1:] == given[1:]


async def test_an_answer_of_one_chunk_carries_everything() -> None:
    given = [chunk({"role": "assistant", "content": "blue [1]"}, finish="stop"), "data: [DONE]\n\n"]
    (told,) = objects(await cited("chat", given, bibliography()))
    assert told["retrieval"]["cited"] == [1]
    assert len(told["retrieval"]["sources"]) == 3
    assert json.loads(json.dumps(told["choices"][0]["delta"]["annotations"]))
