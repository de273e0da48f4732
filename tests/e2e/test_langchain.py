"""LangChain's models over this server: answers from sources, and embeddings as it asks for them by default."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import numpy as np
import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from retrieval.cl100k import VOCABULARY
from tests.e2e.library import MARKER, SKY, TRIES, Library, scribbling

# under which tiktoken looks for its vocabulary in its cache, instead of fetching it
VOCABULARY_KEY = hashlib.sha1(
    b"https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken", usedforsecurity=False
).hexdigest()
TEXTS = ["A dog runs.", "Interest rates rose.", "A puppy is running.", "Ação!"]


@pytest.fixture
def chat(server: str) -> Any:
    def make(**asked: Any) -> ChatOpenAI:
        everything = {"model": "demo", "max_tokens": 40, "temperature": 0} | asked
        return ChatOpenAI(base_url=f"{server}/v1", api_key="none-needed", max_retries=0, **everything)

    return make


@pytest.fixture
def embeddings(server: str) -> Any:
    def make(**asked: Any) -> OpenAIEmbeddings:
        return OpenAIEmbeddings(
            model="embedder", base_url=f"{server}/v1", api_key="none-needed", max_retries=0, **asked
        )

    return make


@pytest.fixture
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """tiktoken's cl100k_base from this project's copy, so that nothing is fetched."""
    shutil.copyfile(VOCABULARY, tmp_path / VOCABULARY_KEY)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    yield
    assert [path.name for path in tmp_path.iterdir()] == [VOCABULARY_KEY]


@pytest.fixture
def sent() -> list[Any]:
    """Bodies of requests, as they went out through `recording`."""
    return []


@pytest.fixture
def recording(sent: list[Any]) -> Iterator[httpx2.Client]:
    with httpx2.Client(event_hooks={"request": [lambda request: sent.append(json.loads(request.content))]}) as http:
        yield http


@pytest.mark.parametrize("model", ["demo", "pirate"])
def test_a_grounded_answer_whole_and_streamed(chat: Any, library: Library, model: str) -> None:
    plain = chat(model=model).invoke(SKY)
    grounded = chat(model=model, extra_body={"retrieval": library.asked})
    answer = grounded.invoke(SKY)
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert answer.response_metadata["model_name"] == model
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] > plain.usage_metadata["input_tokens"] + 20
    pieces = list(grounded.stream(SKY))
    assert all(isinstance(piece, AIMessageChunk) for piece in pieces)
    assert "".join(piece.text for piece in pieces) == answer.text


def test_an_assistant_is_a_model_like_others(chat: Any) -> None:
    asked = "When does Brisa Bikes open?"
    answer = chat(model="demo-guide").invoke(asked)
    plain = chat(model="demo-guide", extra_body={"retrieval": None}).invoke(asked)
    assert answer.text
    assert answer.usage_metadata["input_tokens"] > plain.usage_metadata["input_tokens"] + 100


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_sources_and_citations_by_the_responses_api(chat: Any, library: Library, stream: bool) -> None:
    for seed in range(TRIES):
        body = {key: value for key, value in scribbling(seed).items() if key != "temperature"}
        model = chat(
            max_tokens=60,
            temperature=1.0,
            use_responses_api=True,
            include=["file_search_call.results"],
            extra_body=body,
        ).bind_tools([library.tool])
        if stream:
            first, *rest = model.stream(SKY)
            answer = first
            for piece in rest:
                answer = answer + piece
        else:
            answer = model.invoke(SKY)
        if MARKER.search(answer.text):
            break
    call, result, text = answer.content_blocks
    assert (call["type"], call["name"]) == ("server_tool_call", "file_search")
    assert call["args"] == {"queries": [SKY]}
    assert result["status"] == "success"
    by_number = {number: source["filename"] for number, source in enumerate(result["output"], 1)}
    assert set(by_number.values()) == {"lumen.md", "ferry.txt"}
    markers = list(MARKER.finditer(text["text"]))
    assert markers
    cited = [(one["title"], one["extras"]["file_index"]) for one in text["annotations"]]
    assert cited == [(by_number[int(marker.group()[1])], marker.start()) for marker in markers]


def test_tools_beside_a_search(chat: Any, library: Library) -> None:
    def get_weather(city: Literal["Lumen", "Rome"]) -> str:
        """The weather in a city."""
        return f"{city}: clear"

    model = chat(max_tokens=120, extra_body={"retrieval": library.asked}).bind_tools(
        [get_weather], tool_choice="get_weather", strict=True
    )
    (call,) = model.invoke("What is the weather in Lumen?").tool_calls
    assert call["name"] == "get_weather"
    assert call["args"].keys() == {"city"}


@pytest.mark.usefixtures("vocabulary")
def test_embeddings_of_token_ids_in_base64(
    client: openai.OpenAI, embeddings: Any, recording: httpx2.Client, sent: list[Any]
) -> None:
    """What LangChain sends by default: arrays of cl100k ids, answered in base64."""
    own = [item.embedding for item in client.embeddings.create(model="embedder", input=TEXTS).data]
    told = embeddings(http_client=recording).embed_documents(TEXTS)
    np.testing.assert_allclose(told, own, atol=1e-4)
    assert all(isinstance(number, int) for ids in sent[0]["input"] for number in ids)
    assert sent[0]["encoding_format"] == "base64"
    assert np.linalg.norm(told, axis=1) == pytest.approx(1, abs=1e-4)


@pytest.mark.usefixtures("vocabulary")
def test_a_long_text_is_sent_in_parts(embeddings: Any) -> None:
    long = " ".join(f"Sentence {n} is about the sea." for n in range(2000))
    (vector,) = embeddings().embed_documents([long])
    assert len(vector) == 384
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


def test_embeddings_of_texts(client: openai.OpenAI, embeddings: Any, recording: httpx2.Client, sent: list[Any]) -> None:
    """With `check_embedding_ctx_length=False` it sends texts, and needs no vocabulary."""
    plain = embeddings(check_embedding_ctx_length=False, http_client=recording)
    own = client.embeddings.create(model="embedder", input=TEXTS[0]).data[0].embedding
    np.testing.assert_allclose(plain.embed_query(TEXTS[0]), own, atol=1e-4)
    assert sent[0]["input"] in (TEXTS[0], [TEXTS[0]])


def test_base64_is_what_the_official_client_reads(client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="embedder", input=TEXTS, encoding_format="base64").parse()
    for item in raw.data:
        assert isinstance(item.embedding, str)
        assert len(base64.b64decode(item.embedding)) == 384 * 4
