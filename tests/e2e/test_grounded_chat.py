"""Chat completions answered from sources, through OpenAI's client: whole and streamed, on whatever `model` may be."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.e2e.library import (
    A_CITY,
    CONTROL,
    DOGS,
    FERRY,
    FILES,
    MARKER,
    SKY,
    TRIES,
    URL,
    Library,
    retrieval,
    scribbling,
)

MODELS = ["demo", "pirate", "demo-guide"]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": A_CITY,
    },
}


def ask(question: str) -> Any:
    return [{"role": "user", "content": question}]


def chat(client: openai.OpenAI, **asked: Any) -> ChatCompletion:
    everything: Any = {"model": "demo", "messages": ask(SKY), "max_tokens": 24} | asked
    answer = client.chat.completions.create(**everything)
    assert isinstance(answer, ChatCompletion)
    return answer


def chat_stream(client: openai.OpenAI, **asked: Any) -> list[ChatCompletionChunk]:
    everything: Any = {"model": "demo", "messages": ask(SKY), "max_tokens": 24} | asked
    with client.chat.completions.create(**everything, stream=True) as stream:
        return list(stream)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("way", ["tool", "field"])
@pytest.mark.parametrize("model", MODELS)
def test_the_right_passage_is_among_the_sources(client: openai.OpenAI, library: Library, model: str, way: str) -> None:
    how: Any = {"tools": [library.tool]} if way == "tool" else {"extra_body": {"retrieval": library.asked}}
    answer = chat(client, model=model, messages=ask(DOGS), temperature=0, **how)
    assert answer.model == model
    found = retrieval(answer)
    assert found["query"] == DOGS
    assert found["failed"] is None
    assert 1 <= len(found["sources"]) <= 2
    assert [source["number"] for source in found["sources"]] == list(range(1, len(found["sources"]) + 1))
    best = max(found["sources"], key=lambda source: source["score"])
    assert best["filename"] == "rules.pdf"
    assert best["file_id"] == library.file_ids["rules.pdf"]
    assert best["page"] == 2
    assert "Dogs must not board" in best["text"]
    assert 0 < best["score"] <= 1
    message = answer.choices[0].message
    assert message.content
    assert not CONTROL.search(message.content)
    assert not message.tool_calls
    plain = chat(client, model=model, messages=ask(DOGS), max_tokens=1, extra_body={"retrieval": None})
    assert answer.usage is not None
    assert plain.usage is not None
    assert answer.usage.prompt_tokens > plain.usage.prompt_tokens + 20  # the header and the passages were read
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_opens_with_its_sources_and_ends_with_what_it_cites(
    client: openai.OpenAI, library: Library, model: str
) -> None:
    asked: Any = {"model": model, "temperature": 0, "extra_body": {"retrieval": library.asked}}
    whole = chat(client, **asked)
    chunks = chat_stream(client, **asked, stream_options={"include_usage": True})
    assert text_of(chunks) == whole.choices[0].message.content
    *spoken, usage = chunks
    assert all(len(chunk.choices) == 1 for chunk in spoken)
    assert usage.choices == []
    assert usage.usage == whole.usage
    opening, ending = retrieval(spoken[0]), retrieval(spoken[-1])
    assert [(source["file_id"], source["text"]) for source in opening["sources"]] == [
        (source["file_id"], source["text"]) for source in retrieval(whole)["sources"]
    ]
    assert not any("cited" in source for source in opening["sources"])
    assert spoken[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert ending["cited"] == retrieval(whole)["cited"]
    for chunk in spoken[1:-1]:
        assert "retrieval" not in (chunk.model_extra or {})
    delta = spoken[-1].choices[0].delta.model_extra or {}
    told = [annotation.model_dump() for annotation in whole.choices[0].message.annotations or []]
    assert delta["annotations"] == told


def test_the_five_lines_that_everybody_writes(
    client: openai.OpenAI, library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=ask(SKY), max_tokens=24, stream=True, extra_body={"retrieval": library.asked}
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "")
    printed = capsys.readouterr().out
    assert len(printed.split()) > 3
    assert not CONTROL.search(printed)


def test_the_clients_stream_helper_accumulates_it(client: openai.OpenAI, library: Library) -> None:
    with client.chat.completions.stream(
        model="pirate", messages=ask(SKY), max_tokens=100, temperature=0, extra_body={"retrieval": library.asked}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content
    assert final.choices[0].message.annotations is not None


@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_markers_in_the_engine_s_tokens_become_citations(client: openai.OpenAI, library: Library, model: str) -> None:
    for seed in range(TRIES):
        body = scribbling(seed) | {"retrieval": library.asked}
        answer = chat(client, model=model, max_tokens=60, extra_body=body)
        if MARKER.search(answer.choices[0].message.content or ""):
            break
    message = answer.choices[0].message
    text = message.content or ""
    markers = list(MARKER.finditer(text))
    assert markers, text
    sources = {source["number"]: source for source in retrieval(answer)["sources"]}
    cited = [annotation.url_citation for annotation in message.annotations or []]
    assert [(one.start_index, one.end_index) for one in cited] == [marker.span() for marker in markers]
    for one in cited:
        number = int(text[one.start_index + 1 : one.end_index - 1])
        assert one.title == sources[number]["filename"]
        assert one.url == (
            URL if one.title == "lumen.md" else f"{client.base_url}files/{library.file_ids[one.title]}/content"
        )
    first_seen = list(dict.fromkeys(int(marker.group()[1]) for marker in markers))
    assert retrieval(answer)["cited"] == first_seen
    assert {number for number, source in sources.items() if source["cited"]} == set(first_seen)


def test_markers_split_over_chunks_are_found(client: openai.OpenAI, library: Library) -> None:
    for seed in range(TRIES):
        chunks = chat_stream(client, max_tokens=60, extra_body=scribbling(seed) | {"retrieval": library.asked})
        text = text_of(chunks)
        if MARKER.search(text):
            break
    markers = list(MARKER.finditer(text))
    assert markers, text
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert not any(MARKER.search(piece) for piece in pieces)  # each of a marker's tokens came by itself
    annotations = (chunks[-1].choices[0].delta.model_extra or {})["annotations"]
    spans = [(one["url_citation"]["start_index"], one["url_citation"]["end_index"]) for one in annotations]
    assert spans == [marker.span() for marker in markers]
    assert retrieval(chunks[-1])["cited"] == list(dict.fromkeys(int(marker.group()[1]) for marker in markers))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_markers_are_taken_out_where_that_is_asked_for(client: openai.OpenAI, library: Library, stream: bool) -> None:
    for seed in range(TRIES):
        body = scribbling(seed) | {"retrieval": library.asked | {"markers": "strip"}}
        if stream:
            chunks = chat_stream(client, max_tokens=60, extra_body=body)
            text, annotations = text_of(chunks), (chunks[-1].choices[0].delta.model_extra or {})["annotations"]
            cited = retrieval(chunks[-1])["cited"]
        else:
            answer = chat(client, max_tokens=60, extra_body=body)
            text = answer.choices[0].message.content or ""
            annotations = [one.model_dump() for one in answer.choices[0].message.annotations or []]
            cited = retrieval(answer)["cited"]
        if annotations:
            break
    places = [(one["url_citation"]["start_index"], one["url_citation"]["end_index"]) for one in annotations]
    assert places
    assert all(start == end <= len(text) for start, end in places)  # where each one stood
    assert [start for start, _ in places] == sorted(start for start, _ in places)
    assert set(cited) <= {1, 2}
    assert cited
    n_tokens_of_markers = 3 * len(places)
    assert len(text) <= 2 * (60 - n_tokens_of_markers)  # " [" is the longest token that is left


def test_each_choice_has_citations_of_its_own(client: openai.OpenAI, library: Library) -> None:
    answer = chat(client, n=3, max_tokens=60, extra_body=scribbling(5) | {"retrieval": library.asked})
    texts = [choice.message.content or "" for choice in answer.choices]
    assert len(set(texts)) == 3
    for text, choice in zip(texts, answer.choices, strict=True):
        cited = [one.url_citation for one in choice.message.annotations or []]
        assert [(one.start_index, one.end_index) for one in cited] == [m.span() for m in MARKER.finditer(text)]


def test_brackets_in_a_prescribed_form_are_the_clients_own(client: openai.OpenAI, library: Library) -> None:
    body = {"structured_outputs": {"regex": r"It is green \[1\]\."}, "retrieval": library.asked}
    answer = chat(client, extra_body=body)
    assert answer.choices[0].message.content == "It is green [1]."
    assert not answer.choices[0].message.annotations
    assert "cited" not in retrieval(answer)
    assert retrieval(answer)["sources"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_function_beside_the_search_is_called(client: openai.OpenAI, library: Library, stream: bool) -> None:
    asked: Any = {
        "tools": [library.tool, WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_tokens": 120,
        "temperature": 0,
    }
    if stream:
        chunks = chat_stream(client, **asked)
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        name, arguments = calls[0].function, "".join(call.function.arguments or "" for call in calls if call.function)
        assert name is not None
        assert name.name == "get_weather"
        sources = retrieval(chunks[0])["sources"]
    else:
        answer = chat(client, **asked)
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.name == "get_weather"
        arguments = call.function.arguments
        sources = retrieval(answer)["sources"]
    assert re.fullmatch(r'\{\s*"city":\s*".*"\s*\}', arguments)
    assert {source["filename"] for source in sources} <= FILES.keys()
    assert sources


def test_a_follow_up_is_searched_for_with_what_it_refers_to(client: openai.OpenAI, library: Library) -> None:
    messages = [*ask(FERRY), {"role": "assistant", "content": "At seven o'clock."}, *ask("And on Sundays?")]
    found = retrieval(chat(client, messages=messages, extra_body={"retrieval": library.asked}))
    assert "Sundays" in found["query"]
    assert "ferry" in found["query"]
    assert {source["filename"] for source in found["sources"]} == {"ferry.txt", "rules.pdf"}


def test_what_has_no_room_is_left_out_and_told(client: openai.OpenAI, library: Library) -> None:
    def long(n: int) -> tuple[str, int]:
        text = "hello " * n + SKY
        told = chat(client, messages=ask(text), max_tokens=4, extra_body={"retrieval": None})
        assert told.usage is not None
        return text, told.usage.prompt_tokens

    (_, little), (_, more) = long(1), long(101)
    asked, n_tokens = long((1200 - little) * 100 // (more - little))
    room = 2048 - n_tokens - 10  # less than half of the context, so that all of it is kept for the answer
    assert room < 1024
    answer = chat(client, messages=ask(asked), max_tokens=room, stop=["."], extra_body={"retrieval": library.asked})
    found = retrieval(answer)
    assert found["sources"] == []
    assert {one["reason"] for one in found["dropped"]} == {"room"}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == n_tokens  # the client's own words, all of them


def test_a_cap_near_the_context_leaves_room_for_sources(client: openai.OpenAI, library: Library) -> None:
    answer = chat(client, messages=ask(SKY), max_tokens=2048, stop=["."], extra_body={"retrieval": library.asked})
    assert retrieval(answer)["sources"]


def test_nothing_found_is_an_answer_without_sources(client: openai.OpenAI, store: Any) -> None:
    answer = chat(client, extra_body={"retrieval": {"vector_store_ids": [store.id]}})
    assert answer.choices[0].message.content
    assert retrieval(answer)["sources"] == []
    assert retrieval(answer)["failed"] is None


def test_null_switches_an_assistants_sources_off(client: openai.OpenAI) -> None:
    asked: Any = {"model": "demo-guide", "messages": ask("When does Brisa Bikes open?")}
    grounded = chat(client, **asked)
    assert "brisa-handbook.md" in {source["filename"] for source in retrieval(grounded)["sources"]}
    plain = chat(client, **asked, extra_body={"retrieval": None})
    assert "retrieval" not in (plain.model_extra or {})
    assert grounded.usage is not None
    assert plain.usage is not None
    assert grounded.usage.prompt_tokens > plain.usage.prompt_tokens + 100


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_is_asked_wrongly_is_told_before_the_first_byte(
    client: openai.OpenAI, library: Library, stream: bool
) -> None:
    def asked(**retrieval: Any) -> None:
        body = {"retrieval": library.asked | retrieval}
        client.chat.completions.create(model="demo", messages=ask(SKY), stream=stream, extra_body=body)

    with pytest.raises(openai.NotFoundError, match="nowhere"):
        asked(vector_store_ids=["nowhere"])
    with pytest.raises(openai.BadRequestError) as caught:
        asked(filters={"type": "like", "key": "about", "value": "sky"})
    assert caught.value.param is not None
    assert caught.value.param.startswith("retrieval.filters")
    with pytest.raises(openai.BadRequestError, match="max_num_results"):
        asked(max_num_results=51)
