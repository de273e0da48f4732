"""The whole way: files are uploaded, read and embedded, and answers in every dialect, whole and streamed, cite them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from langchain_openai import ChatOpenAI

from retrieval.ingestion import Ingestion
from retrieval.queue import Queue
from retrieval.vectors import Vectors
from server.engine.fake import FakeEngine
from server.services import Services
from server.threads import run_in
from tests.server.citing.answers import objects

DOGS = b"The kennel opens at seven. Dogs need a lead in the yard."
CATS = b"The cattery opens at nine. Cats are fed twice a day."
QUESTION = "When does the kennel open, and when the cattery?"
ASKED: Any = [{"role": "user", "content": QUESTION}]
PIECES = ("At seven", " [", "1", "]. At nine ", "[2", "].")
TEXT = "".join(PIECES)
FILE_SEARCH: Any = {"type": "file_search", "vector_store_ids": ["animals"]}
RETRIEVAL = {"retrieval": {"vector_store_ids": ["animals"]}}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(pieces=PIECES, context_tokens=8192)


@pytest.fixture
async def filenames(client: openai.AsyncOpenAI, services: Services) -> list[str]:
    """The names of the files in the store `animals`, by the numbers that their passages have as sources."""
    dogs = await client.files.create(file=("dogs.txt", DOGS), purpose="assistants")
    cats = await client.files.create(file=("cats.txt", CATS), purpose="assistants")
    store = await client.vector_stores.create(name="animals", file_ids=[dogs.id, cats.id])
    ingestion = Ingestion(
        Queue(services.database), services.files, Vectors(services.database), services.embedder, holder="test"
    )
    while await run_in(None, ingestion.step):
        pass
    assert (await client.vector_stores.retrieve(store.id)).file_counts.completed == 2
    answer: Any = await client.chat.completions.create(model="demo", messages=ASKED, extra_body=RETRIEVAL)
    sources = sorted(answer.retrieval["sources"], key=lambda source: source["number"])
    assert {source["filename"] for source in sources} == {"dogs.txt", "cats.txt"}
    return [source["filename"] for source in sources]


def spans(annotations: list[dict[str, Any]], text: str) -> list[tuple[str, str]]:
    told = [annotation["url_citation"] for annotation in annotations]
    return [(span["title"], text[span["start_index"] : span["end_index"]]) for span in told]


async def test_chat(
    client: openai.AsyncOpenAI, engine: FakeEngine, filenames: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    expected = list(zip(filenames, ["[1]", "[2]"], strict=True))
    how: tuple[dict[str, Any], ...] = ({"extra_body": RETRIEVAL}, {"tools": [FILE_SEARCH]})
    for asked in how:
        with caplog.at_level(logging.INFO, "server.access"):
            answer: Any = await client.chat.completions.create(model="demo", messages=ASKED, **asked)
        message = answer.choices[0].message
        assert message.content == TEXT
        told = [annotation.model_dump() for annotation in message.annotations]
        assert spans(told, TEXT) == expected
        assert told[0]["url_citation"]["url"].startswith("http://127.0.0.1:8000/v1/files/file-")
        assert answer.retrieval["cited"] == [1, 2]
        fields = caplog.records[-1].fields  # type: ignore[attr-defined]  # ours
        assert fields["sources"] == 2
        assert fields["search_ms"] > 0
        sent = engine.calls[-1].body
        assert "retrieval" not in sent
        assert "tools" not in sent
        assert sent["messages"][0]["content"].endswith(QUESTION)

        stream = await client.chat.completions.create(model="demo", messages=ASKED, stream=True, **asked)
        text, chunks = "", []
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            chunks.append(chunk)
        assert text == TEXT
        assert [hasattr(chunk, "retrieval") for chunk in chunks] == [True, *[False] * (len(chunks) - 2), True]
        assert spans(getattr(chunks[-1].choices[0].delta, "annotations"), text) == expected  # noqa: B009  # not OpenAI's


async def test_completions(client: openai.AsyncOpenAI, engine: FakeEngine, filenames: list[str]) -> None:
    expected = list(zip(filenames, ["[1]", "[2]"], strict=True))
    answer: Any = await client.completions.create(model="demo", prompt=QUESTION, extra_body=RETRIEVAL)
    assert spans(answer.choices[0].annotations, answer.choices[0].text) == expected
    stream = await client.completions.create(model="demo", prompt=QUESTION, stream=True, extra_body=RETRIEVAL)
    chunks: list[Any] = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert chunks[0].retrieval["query"] == QUESTION
    assert spans(chunks[-1].choices[0].annotations, TEXT) == expected
    echoed: Any = await client.completions.create(model="demo", prompt=QUESTION, echo=True, extra_body=RETRIEVAL)
    assert not engine.calls[-1].body["echo"]
    assert echoed.choices[0].text == QUESTION + TEXT
    assert spans(echoed.choices[0].annotations, QUESTION + TEXT) == expected


async def test_messages(claude: anthropic.AsyncAnthropic, filenames: list[str]) -> None:
    request: Any = {"model": "demo", "max_tokens": 50, "messages": ASKED, "extra_body": RETRIEVAL}
    answer = await claude.messages.create(**request)
    async with claude.messages.stream(**request) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == TEXT
    for message in (answer, final):
        (block,) = message.content
        assert block.type == "text"
        assert block.text == TEXT
        assert block.citations is not None
        told = [citation for citation in block.citations if citation.type == "search_result_location"]
        assert [citation.title for citation in told] == filenames
        assert [citation.search_result_index for citation in told] == [0, 1]
        assert {citation.cited_text for citation in told} == {DOGS.decode(), CATS.decode()}
    again = await claude.messages.create(
        model="demo",
        max_tokens=50,
        messages=[*ASKED, {"role": "assistant", "content": final.content}, {"role": "user", "content": "And dogs?"}],
        extra_body=RETRIEVAL,
    )
    assert again.content[0].type == "text"


async def test_responses(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient, engine: FakeEngine, filenames: list[str]
) -> None:
    asked: Any = {"model": "demo", "input": QUESTION, "tools": [FILE_SEARCH]}
    whole = await client.responses.create(**asked)
    async with client.responses.stream(**asked) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    background = await client.responses.create(**asked, background=True)
    while background.status in ("queued", "in_progress"):
        await asyncio.sleep(0)
        background = await client.responses.retrieve(background.id)
    retrieved = await client.responses.retrieve(final.id)
    results: Any = ["file_search_call.results"]
    for response in (whole, final, background, retrieved):
        call, message = response.output
        assert call.type == "file_search_call"
        assert (call.status, call.queries, call.results) == ("completed", [QUESTION], None)
        assert message.type == "message"
        assert response.output_text == TEXT
        (part,) = message.content
        assert part.type == "output_text"
        told = [annotation for annotation in part.annotations if annotation.type == "file_citation"]
        assert [(annotation.filename, annotation.index) for annotation in told] == [
            (filenames[0], TEXT.index("[1]")),
            (filenames[1], TEXT.index("[2]")),
        ]
        assert [tool.type for tool in response.tools] == ["file_search"]
        kept = (await client.responses.retrieve(response.id, include=results)).output[0]
        assert kept.type == "file_search_call"
        assert {found.text for found in kept.results or ()} == {DOGS.decode(), CATS.decode()}
    kinds = [event.type for event in events]
    assert kinds.count("response.output_text.annotation.added") == 2
    assert kinds.index("response.file_search_call.completed") < kinds.index("response.output_text.delta")
    shown = await client.responses.create(**asked, include=results)
    assert shown.output[0].type == "file_search_call"
    assert len(shown.output[0].results or ()) == 2
    raw = await http.post("/v1/responses", json={**asked, "stream": True, "include": results})
    items = [event["item"] for event in objects(raw.text.split("\n\n")) if event["type"] == "response.output_item.done"]
    assert len(items[0]["results"]) == 2
    await client.responses.create(**{**asked, "input": "And dogs?"}, previous_response_id=final.id)
    sent = engine.calls[-1].body["input"]
    assert [item.get("type") for item in sent] == ["message"] * 3
    by_hand: Any = [{"role": "user", "content": QUESTION}, *(item.model_dump() for item in final.output)]
    await client.responses.create(**{**asked, "input": [*by_hand, {"role": "user", "content": "And dogs?"}]})
    assert [item.get("type") for item in engine.calls[-1].body["input"]] == ["message"] * 3


@pytest.mark.usefixtures("filenames")
async def test_markers_go_out_of_every_dialect_where_that_is_asked_for(
    client: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    asked: Any = {"extra_body": {"retrieval": {"vector_store_ids": ["animals"], "markers": "strip"}}}
    text = "At seven. At nine."
    chat: Any = await client.chat.completions.create(model="demo", messages=ASKED, **asked)
    assert chat.choices[0].message.content == text
    assert [one.url_citation.start_index for one in chat.choices[0].message.annotations] == [8, 17]
    assert chat.retrieval["cited"] == [1, 2]
    stream = await client.chat.completions.create(model="demo", messages=ASKED, stream=True, **asked)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text
    completions = await client.completions.create(model="demo", prompt=QUESTION, stream=True, **asked)
    assert "".join([chunk.choices[0].text async for chunk in completions]) == text
    async with client.responses.stream(model="demo", input=QUESTION, **asked) as events:
        assert (await events.get_final_response()).output_text == text
    async with claude.messages.stream(model="demo", max_tokens=50, messages=ASKED, **asked) as messages:
        assert await messages.get_final_text() == text


async def test_an_assistant_answers_from_its_stores_unless_told_not_to(
    client: openai.AsyncOpenAI, services: Services, filenames: list[str]
) -> None:
    stores = {"file_search": {"vector_store_ids": ["animals"]}}
    services.assistants.create({"name": "guide", "model": "demo", "tool_resources": stores})
    answer: Any = await client.chat.completions.create(model="guide", messages=ASKED)
    assert [source["filename"] for source in answer.retrieval["sources"]] == filenames
    without = await client.chat.completions.create(model="guide", messages=ASKED, extra_body={"retrieval": None})
    assert without.choices[0].message.annotations is None
    assert not hasattr(without, "retrieval")


async def test_langchain_reads_the_answer_and_the_stream(http: httpx2.AsyncClient, filenames: list[str]) -> None:
    chat = ChatOpenAI(
        model="demo",
        api_key="none-needed",  # type: ignore[arg-type]  # LangChain wraps it
        base_url="http://127.0.0.1:8000/v1",
        http_async_client=http,
        extra_body=RETRIEVAL,
    )
    assert (await chat.ainvoke(QUESTION)).content == TEXT
    pieces = [piece.content async for piece in chat.astream(QUESTION)]
    assert "".join(str(piece) for piece in pieces) == TEXT
