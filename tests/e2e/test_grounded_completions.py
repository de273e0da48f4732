"""Completions of one prompt, answered from sources, through OpenAI's client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types import Completion

from tests.e2e.library import CONTROL, FERRY, MARKER, TRIES, Library, retrieval, scribbling


def complete(client: openai.OpenAI, **asked: Any) -> Completion:
    everything: Any = {"model": "demo", "prompt": FERRY, "max_tokens": 16} | asked
    answer = client.completions.create(**everything)
    assert isinstance(answer, Completion)
    return answer


def completion_stream(client: openai.OpenAI, **asked: Any) -> list[Completion]:
    everything: Any = {"model": "demo", "prompt": FERRY, "max_tokens": 16} | asked
    with client.completions.create(**everything, stream=True) as stream:
        return list(stream)


@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, library: Library, model: str) -> None:
    asked: Any = {"model": model, "temperature": 0, "extra_body": {"retrieval": library.asked}}
    whole = complete(client, **asked)
    assert whole.model == model
    best = max(retrieval(whole)["sources"], key=lambda source: source["score"])
    assert best["filename"] == "ferry.txt"
    assert not CONTROL.search(whole.choices[0].text)
    plain = complete(client, **asked | {"extra_body": {"retrieval": None}})
    assert "retrieval" not in (plain.model_extra or {})
    assert whole.usage is not None
    assert plain.usage is not None
    assert whole.usage.prompt_tokens > plain.usage.prompt_tokens + 20
    chunks = completion_stream(client, **asked, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    *spoken, usage = chunks
    assert usage.usage == whole.usage
    assert not any("cited" in source for source in retrieval(spoken[0])["sources"])
    assert retrieval(spoken[-1])["cited"] == retrieval(whole)["cited"]
    assert all(chunk.choices for chunk in spoken)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_an_assistant_answers_from_its_stores(client: openai.OpenAI, library: Library) -> None:
    made = client.beta.assistants.create(
        model="pirate",
        name="ferryman",  # without instructions, which a bare prompt has no place for
        tools=[{"type": "file_search", "file_search": {"max_num_results": 1}}],
        tool_resources={"file_search": {"vector_store_ids": [library.store_id]}},
    )
    try:
        found = retrieval(complete(client, model="ferryman"))
        assert [source["filename"] for source in found["sources"]] == ["ferry.txt"]
        plain = complete(client, model="ferryman", extra_body={"retrieval": None})
        assert "retrieval" not in (plain.model_extra or {})
    finally:
        client.beta.assistants.delete(made.id)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_markers_in_the_engine_s_tokens_become_citations(client: openai.OpenAI, library: Library, stream: bool) -> None:
    for seed in range(TRIES):
        asked: Any = {"max_tokens": 60, "extra_body": scribbling(seed) | {"retrieval": library.asked}}
        if stream:
            chunks = completion_stream(client, **asked)
            text = "".join(chunk.choices[0].text for chunk in chunks)
            last = chunks[-1]
        else:
            last = complete(client, **asked)
            text = last.choices[0].text
        if MARKER.search(text):
            break
    markers = list(MARKER.finditer(text))
    assert markers, text
    annotations = (last.choices[0].model_extra or {})["annotations"]
    spans = [(one["url_citation"]["start_index"], one["url_citation"]["end_index"]) for one in annotations]
    assert spans == [marker.span() for marker in markers]
    assert retrieval(last)["cited"] == list(dict.fromkeys(int(marker.group()[1]) for marker in markers))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_echo_is_the_clients_own_prompt(client: openai.OpenAI, library: Library, stream: bool) -> None:
    asked: Any = {"prompt": f"[1] {FERRY}", "echo": True, "temperature": 0, "extra_body": {"retrieval": library.asked}}
    if stream:
        text = "".join(chunk.choices[0].text for chunk in completion_stream(client, **asked))
    else:
        text = complete(client, **asked).choices[0].text
    assert text.startswith(f"[1] {FERRY}")
    assert "seven o'clock in the morning" not in text.partition(FERRY)[0]
    assert '"""' not in text


def test_one_prompt_at_a_time(client: openai.OpenAI, library: Library) -> None:
    with pytest.raises(openai.BadRequestError, match="one text") as caught:
        complete(client, prompt=[FERRY, FERRY], extra_body={"retrieval": library.asked})
    assert caught.value.param == "prompt"
