"""The demo's assistant answers from the demo's documents and says where from, in each dialect that it answers in."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest
from openai.types.responses.response_output_text import AnnotationFileCitation

from tests.e2e.library import retrieval

ASK = "When does Brisa Bikes open?"
ANSWER = "nine"
DOCUMENT = "brisa-handbook.md"

both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@both
def test_chat(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "demo-guide", "messages": [{"role": "user", "content": ASK}], "max_tokens": 60}
    if stream:
        with client.chat.completions.create(**asked, stream=True) as events:
            chunks: list[Any] = list(events)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        sources, cited = retrieval(chunks[0])["sources"], retrieval(chunks[-1])["cited"]
        annotations = chunks[-1].choices[0].delta.model_extra["annotations"]
    else:
        answer = client.chat.completions.create(**asked)
        text = answer.choices[0].message.content
        sources, cited = retrieval(answer)["sources"], retrieval(answer)["cited"]
        annotations = [one.model_dump() for one in answer.choices[0].message.annotations]
    assert ANSWER in text
    assert cited
    assert set(cited) <= {source["number"] for source in sources if source["filename"] == DOCUMENT}
    spans = [(one["url_citation"]["start_index"], one["url_citation"]["end_index"]) for one in annotations]
    assert spans
    assert {text[start:end] for start, end in spans} == {f"[{number}]" for number in cited}
    address = annotations[0]["url_citation"]["url"]
    assert ANSWER in client.get(address, cast_to=str)  # the citation leads to the document


@both
def test_responses(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "demo-guide", "input": ASK, "max_output_tokens": 60}
    if stream:
        with client.responses.create(**asked, stream=True) as events:
            response = list(events)[-1].response
    else:
        response = client.responses.create(**asked)
    search, message = response.output
    assert search.queries == [ASK]
    (part,) = message.content
    assert ANSWER in part.text
    assert part.annotations
    for annotation in part.annotations:
        assert isinstance(annotation, AnnotationFileCitation)
        assert annotation.filename == DOCUMENT
        assert part.text[annotation.index] == "["


@both
def test_messages(claude: anthropic.Anthropic, stream: bool) -> None:
    asked: Any = {"model": "demo-guide", "max_tokens": 60, "messages": [{"role": "user", "content": ASK}]}
    if stream:
        with claude.messages.stream(**asked) as events:
            kinds = [event.type for event in events]
            message = events.get_final_message()
        assert "citation" in kinds  # the client's own event for a citations_delta
    else:
        message = claude.messages.create(**asked)
    (block,) = message.content
    assert block.type == "text"
    assert ANSWER in block.text
    assert block.citations
    for citation in block.citations:
        assert citation.type == "search_result_location"
        assert citation.title == DOCUMENT
        assert f"[{citation.search_result_index + 1}]" in block.text
        assert ANSWER in citation.cited_text
        assert citation.source.startswith(str(claude.base_url))
