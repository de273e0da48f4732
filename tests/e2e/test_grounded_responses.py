"""Responses with the `file_search` tool, through OpenAI's client: whole, streamed event by event, kept and gone on."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseFileSearchToolCall, ResponseOutputMessage
from openai.types.responses.response_output_text import AnnotationFileCitation

from tests.e2e.library import A_CITY, CONTROL, DOGS, FERRY, MARKER, SKY, TRIES, Library, retrieval, scribbling

RESULTS: Any = ["file_search_call.results"]
BEFORE_THE_TEXT = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.file_search_call.in_progress",
    "response.file_search_call.searching",
    "response.file_search_call.completed",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
]
AFTER_THE_TEXT = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]


def respond(client: openai.OpenAI, library: Library, **asked: Any) -> Response:
    everything: Any = {"model": "demo", "input": SKY, "tools": [library.tool], "max_output_tokens": 24} | asked
    answer = client.responses.create(**everything)
    assert isinstance(answer, Response)
    return answer


def response_events(client: openai.OpenAI, library: Library, **asked: Any) -> list[Any]:
    everything: Any = {"model": "demo", "input": SKY, "tools": [library.tool], "max_output_tokens": 24} | asked
    with client.responses.create(**everything, stream=True) as stream:
        return list(stream)


def search_and_message(response: Response) -> tuple[ResponseFileSearchToolCall, ResponseOutputMessage]:
    search, message = response.output
    assert isinstance(search, ResponseFileSearchToolCall)
    assert isinstance(message, ResponseOutputMessage)
    return search, message


@pytest.mark.parametrize("model", ["demo", "pirate", "demo-guide"])
def test_the_search_comes_before_the_message(client: openai.OpenAI, library: Library, model: str) -> None:
    response = respond(client, library, model=model, input=FERRY, include=RESULTS, temperature=0)
    assert response.model == model
    search, message = search_and_message(response)
    assert search.status == "completed"
    assert search.queries == [FERRY]
    best = max(search.results or [], key=lambda result: result.score or 0)
    assert best.filename == "ferry.txt"
    assert best.file_id == library.file_ids["ferry.txt"]
    assert best.attributes == {"about": "ferry", "year": 2024}
    assert "leaves at seven o'clock" in (best.text or "")
    assert response.output_text
    assert not CONTROL.search(response.output_text)
    assert message.role == "assistant"
    assert [tool.type for tool in response.tools] == ["file_search"]
    plain = client.responses.create(model=model, input=FERRY, max_output_tokens=4, extra_body={"retrieval": None})
    assert response.usage is not None
    assert plain.usage is not None
    assert response.usage.input_tokens > plain.usage.input_tokens + 20


def test_results_come_only_where_they_are_asked_for(client: openai.OpenAI, library: Library) -> None:
    response = respond(client, library)
    search, _ = search_and_message(response)
    assert search.results is None
    assert all("text" not in source for source in retrieval(response)["sources"])


@pytest.mark.parametrize("model", ["demo", "pirate", "demo-guide"])
def test_every_event_in_its_order(client: openai.OpenAI, library: Library, model: str) -> None:
    events = response_events(client, library, model=model, include=RESULTS, temperature=0)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[: len(BEFORE_THE_TEXT)] == BEFORE_THE_TEXT
    texts = [
        kind for kind in kinds if kind not in ("response.output_text.delta", "response.output_text.annotation.added")
    ]
    assert texts[-4:-1] == AFTER_THE_TEXT
    assert kinds[-1] in ("response.completed", "response.incomplete")
    final = events[-1].response
    search, message = search_and_message(final)
    placed = [event for event in events if hasattr(event, "output_index")]
    told_of_search = [event for event in placed if event.output_index == 0]
    assert {getattr(event, "item_id", search.id) for event in told_of_search} == {search.id}
    added, done = (event.item for event in told_of_search if event.type.startswith("response.output_item"))
    assert (added.status, done.status) == ("in_progress", "completed")
    assert done == search
    told_of_message = [event for event in placed if event.output_index == 1]
    assert len(told_of_search) + len(told_of_message) == len(placed)
    assert {event.item_id for event in told_of_message if hasattr(event, "item_id")} == {message.id}
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text
    whole = respond(client, library, model=model, include=RESULTS, temperature=0)
    assert whole.output_text == text
    assert whole.usage is not None
    assert whole.usage.total_tokens == final.usage.total_tokens  # how many of them were cached may differ


def test_the_clients_stream_helper(client: openai.OpenAI, library: Library) -> None:
    with client.responses.stream(
        model="demo", input=SKY, tools=[library.tool], max_output_tokens=40, include=RESULTS
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds.count("response.file_search_call.completed") == 1
    assert final.output[0].type == "file_search_call"
    assert final.output_text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_markers_in_the_engine_s_tokens_become_citations(client: openai.OpenAI, library: Library, stream: bool) -> None:
    for seed in range(TRIES):
        body = {key: value for key, value in scribbling(seed).items() if key != "temperature"}
        asked: Any = {"max_output_tokens": 60, "temperature": 1.0, "include": RESULTS, "extra_body": body}
        events = response_events(client, library, **asked) if stream else []
        response = events[-1].response if stream else respond(client, library, **asked)
        if MARKER.search(response.output_text):
            break
    search, message = search_and_message(response)
    (part,) = message.content
    assert part.type == "output_text"
    markers = list(MARKER.finditer(part.text))
    assert markers, part.text
    annotations = [one for one in part.annotations if isinstance(one, AnnotationFileCitation)]
    assert [one.index for one in annotations] == [marker.start() for marker in markers]
    by_number = {number: result.file_id for number, result in enumerate(search.results or [], 1)}
    assert [one.file_id for one in annotations] == [by_number[int(marker.group()[1])] for marker in markers]
    if not stream:
        return
    so_far = ""
    told: list[Any] = []
    for event in events:
        if event.type == "response.output_text.delta":
            so_far += event.delta
        if event.type == "response.output_text.annotation.added":
            assert event.annotation_index == len(told)
            assert MARKER.match(so_far, markers[len(told)].start())  # once its marker is out; a token may hold more
            told.append(event.annotation)
    dumped = [one.model_dump() for one in annotations]
    assert [one if isinstance(one, dict) else one.model_dump() for one in told] == dumped


def test_it_is_kept_and_the_conversation_goes_on(client: openai.OpenAI, library: Library) -> None:
    first = respond(client, library, input=FERRY)
    kept = client.responses.retrieve(first.id)
    assert kept.output == first.output
    search, _ = search_and_message(client.responses.retrieve(first.id, include=RESULTS))
    assert {result.filename for result in search.results or []} <= set(library.file_ids)
    assert search.results
    second = respond(client, library, input="And on Sundays?", previous_response_id=first.id, include=RESULTS)
    search, _ = search_and_message(second)
    assert "ferry" in search.queries[0]
    assert "rules.pdf" in {result.filename for result in search.results or []}
    third = client.responses.create(model="demo", input="Thanks!", previous_response_id=second.id, max_output_tokens=8)
    assert [item.type for item in third.output] == ["message"]  # a search is for the request that asks for it
    assert [item.type for item in client.responses.input_items.list(second.id).data] == ["message"]
    for response in (first, second, third):
        client.responses.delete(response.id)


def test_what_came_out_may_be_sent_back_in(client: openai.OpenAI, library: Library) -> None:
    first = respond(client, library, input=FERRY, include=RESULTS)
    turns: Any = [
        {"role": "user", "content": FERRY},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"role": "user", "content": DOGS},
    ]
    second = respond(client, library, input=turns, include=RESULTS)
    search, _ = search_and_message(second)
    assert "rules.pdf" in {result.filename for result in search.results or []}


def test_in_the_background(client: openai.OpenAI, library: Library) -> None:
    queued = respond(client, library, background=True)
    assert queued.status == "queued"
    while (ended := client.responses.retrieve(queued.id, include=RESULTS)).status in ("queued", "in_progress"):
        time.sleep(0.02)
    search, _ = search_and_message(ended)
    assert search.status == "completed"
    assert search.results


def test_a_function_beside_the_search(client: openai.OpenAI, library: Library) -> None:
    function: Any = {
        "type": "function",
        "name": "get_time",
        "strict": True,
        "parameters": A_CITY,
    }
    response = respond(
        client, library, tools=[library.tool, function], tool_choice="required", max_output_tokens=60, temperature=0
    )
    assert [item.type for item in response.output] == ["file_search_call", "function_call"]


def test_an_assistant_searches_unless_it_is_switched_off(client: openai.OpenAI) -> None:
    asked: Any = {"model": "demo-guide", "input": "When does Brisa Bikes open?", "max_output_tokens": 8}
    assert [item.type for item in client.responses.create(**asked).output] == ["file_search_call", "message"]
    plain = client.responses.create(**asked, extra_body={"retrieval": None})
    assert [item.type for item in plain.output] == ["message"]


def test_what_is_asked_wrongly_names_the_tool(client: openai.OpenAI, library: Library) -> None:
    with pytest.raises(openai.NotFoundError, match="nowhere"):
        respond(client, library, tools=[{"type": "file_search", "vector_store_ids": ["nowhere"]}])
    with pytest.raises(openai.BadRequestError) as caught:
        respond(client, library, tools=[library.tool | {"filters": {"type": "eq", "key": "about"}}])
    assert caught.value.param is not None
    assert caught.value.param.startswith("tools[0].filters")
