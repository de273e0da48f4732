"""Embeddings through the official client: formats, token ids, limits."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from server.services import Services


async def test_text_list_and_token_ids_agree(client: openai.AsyncOpenAI) -> None:
    text = await client.embeddings.create(model="embedder", input="tiktoken is great!")  # the client asks for base64
    ids = await client.embeddings.create(model="embedder", input=[83, 1609, 5963, 374, 2294, 0])
    many = await client.embeddings.create(
        model="all-MiniLM-L6-v2", input=["other", "tiktoken is great!"], encoding_format="float"
    )
    vector = np.array(text.data[0].embedding)
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(vector, ids.data[0].embedding, atol=1e-6)
    np.testing.assert_allclose(vector, many.data[1].embedding, atol=1e-5)
    assert text.usage.prompt_tokens > 0


async def test_several_batches_come_in_order_and_in_both_formats(
    client: openai.AsyncOpenAI, http: httpx2.AsyncClient
) -> None:
    texts = [f"number {i}" for i in range(70)]
    packed = await client.embeddings.create(model="embedder", input=texts)  # the client asks for base64
    answer = await http.post("/v1/embeddings", json={"model": "embedder", "input": texts})
    assert answer.headers["content-type"] == "application/json"
    plain = answer.json()
    assert list(plain) == ["object", "data", "model", "usage"]
    assert [item["index"] for item in plain["data"]] == [item.index for item in packed.data] == [*range(70)]
    for item, same in zip(plain["data"], packed.data, strict=True):
        np.testing.assert_allclose(item["embedding"], same.embedding, atol=1e-6)
    assert plain["usage"]["total_tokens"] == packed.usage.total_tokens >= 70


async def test_lists_of_token_ids(client: openai.AsyncOpenAI) -> None:
    made = await client.embeddings.create(model="embedder", input=[[83, 1609], [374, 2294]])
    assert [item.index for item in made.data] == [0, 1]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": []}, None),
        ({"input": [10**9]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 100}, "dimensions"),
        ({"model": "demo"}, "model"),
        ({"model": "demo-guide"}, "model"),
        ({"model": "nobody"}, "model"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_bad_requests_name_the_field(http: httpx2.AsyncClient, change: dict[str, Any], param: str | None) -> None:
    answer = await http.post("/v1/embeddings", json={"model": "embedder", "input": "a", **change})
    assert answer.status_code in (400, 404)
    error = answer.json()["error"]
    assert error["message"]
    if param is not None:
        assert error["param"] == param


async def test_half_a_surrogate_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/embeddings", content=b'{"model": "embedder", "input": "\\ud800"}')
    assert answer.status_code == 400
    assert "surrogate" in answer.json()["error"]["message"]


async def test_a_large_request_lets_a_small_one_pass(client: openai.AsyncOpenAI) -> None:
    many = [f"text {i}" for i in range(300)]
    large = asyncio.create_task(client.embeddings.create(model="embedder", input=many))
    small = asyncio.create_task(client.embeddings.create(model="embedder", input=many[299]))
    done, _ = await asyncio.wait([large, small], return_when=asyncio.FIRST_COMPLETED)
    assert done == {small}
    vectors = np.array([item.embedding for item in (await large).data])
    assert vectors.shape == (300, 384)
    np.testing.assert_allclose(vectors[299], (await small).data[0].embedding, atol=1e-5)


async def test_an_embedding_request_has_its_time_too(http: httpx2.AsyncClient, services: Services) -> None:
    object.__setattr__(services, "settings", services.settings.model_copy(update={"request_timeout_seconds": 0.001}))
    answer = await http.post("/v1/embeddings", json={"model": "embedder", "input": ["a"] * 64})
    assert answer.status_code == 504
    assert services.admission.running == 0
