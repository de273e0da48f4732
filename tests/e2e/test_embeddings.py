"""Embeddings through OpenAI's client: every form of input and both formats."""

from __future__ import annotations

import base64

import numpy as np
import openai
import pytest

SAME = "The rent is due on Monday."


def _vector(client: openai.OpenAI, text: str | list[int]) -> np.ndarray:
    return np.array(client.embeddings.create(model="embedder", input=text).data[0].embedding, dtype=np.float32)


@pytest.mark.parametrize("model", ["embedder", "all-MiniLM-L6-v2"])
def test_a_text_by_both_names(client: openai.OpenAI, model: str) -> None:
    answer = client.embeddings.create(model=model, input=SAME, encoding_format="float")
    assert answer.model == model
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 4
    assert len(answer.data) == 1
    vector = np.array(answer.data[0].embedding)
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_base64_is_the_same_vector(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="embedder", input=SAME, encoding_format="float").data[0].embedding
    encoded = client.embeddings.create(model="embedder", input=SAME, encoding_format="base64").data[0].embedding
    assert isinstance(encoded, str)
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(encoded), dtype="<f4"), floats, atol=1e-6)


def test_lists_keep_their_order_and_meaning(client: openai.OpenAI) -> None:
    texts = ["A dog runs.", "Interest rates rose.", "A puppy is running."]
    answer = client.embeddings.create(model="embedder", input=texts)
    assert [item.index for item in answer.data] == [0, 1, 2]
    dog, bank, puppy = (np.array(item.embedding) for item in answer.data)
    assert dog @ puppy > 0.5 > dog @ bank
    np.testing.assert_allclose(dog, _vector(client, texts[0]), atol=1e-4)


def test_token_ids_are_cl100k_s(client: openai.OpenAI) -> None:
    ids = [9906, 1917]  # "Hello world" by tiktoken's cl100k_base
    np.testing.assert_allclose(_vector(client, ids), _vector(client, "Hello world"), atol=1e-4)
    both = client.embeddings.create(model="embedder", input=[ids, ids[:1]])
    np.testing.assert_allclose(both.data[1].embedding, _vector(client, "Hello"), atol=1e-4)
