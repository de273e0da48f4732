"""Completions: the same two places as chat's, on the choice; a repeated prompt is the client's own."""

from __future__ import annotations

from typing import Any

from server.citing import cite_body
from tests.server.citing.answers import bibliography, cited, frame, objects

BASE = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "demo"}


def chunk(text: str, *, finish: str | None = None, index: int = 0) -> str:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    return frame({**BASE, "choices": [choice]})


def body(text: str) -> dict[str, Any]:
    return {**BASE, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}]}


def test_a_choice_carries_its_annotations() -> None:
    answer = cite_body("completions", body(" blue [1]"), bibliography())
    (choice,) = answer["choices"]
    assert choice["text"] == " blue [1]"
    assert choice["annotations"][0]["url_citation"]["start_index"] == 6
    assert answer["retrieval"]["cited"] == [1]


def test_a_repeated_prompt_is_the_clients_and_cites_nothing() -> None:
    answer = cite_body("completions", body(" blue [1]"), bibliography(echoed="The sky [2] is"))
    (choice,) = answer["choices"]
    assert choice["text"] == "The sky [2] is blue [1]"
    (annotation,) = choice["annotations"]
    span = annotation["url_citation"]
    assert choice["text"][span["start_index"] : span["end_index"]] == "[1]"


async def test_a_stream_carries_sources_first_and_citations_last() -> None:
    given = [chunk(" blue"), chunk(" ["), chunk("1]", finish="stop"), "data: [DONE]\n\n"]
    sent = await cited("completions", given, bibliography())
    assert len(sent) == len(given)
    assert sent[1] == given[1]
    first, _, last = objects(sent)
    assert len(first["retrieval"]["sources"]) == 3
    assert last["retrieval"] == {"cited": [1]}
    assert last["choices"][0]["annotations"][0]["url_citation"]["title"] == "colours-1.pdf"


async def test_a_stream_repeats_the_prompt_once_for_each_choice() -> None:
    given = [chunk(" a"), chunk(" b", index=1), chunk(" [1]", finish="stop"), chunk(".", index=1, finish="stop")]
    sent = objects(await cited("completions", given, bibliography(echoed="Say", strip=True)))
    texts = {
        index: "".join(c["text"] for told in sent for c in told["choices"] if c["index"] == index) for index in (0, 1)
    }
    assert texts == {0: "Say a", 1: "Say b."}
    span = sent[2]["choices"][0]["annotations"][0]["url_citation"]
    assert (span["start_index"], span["end_index"]) == (5, 5)
