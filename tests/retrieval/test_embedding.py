"""The bundled embedder really embeds: unit vectors, and near meanings lie near."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval.embedding import BUNDLED, BUNDLED_NAME, Embedder


@pytest.fixture(scope="module")
def embedder(embedder_cache: Path) -> Embedder:
    return Embedder(BUNDLED, cache=embedder_cache)


def test_unit_vectors_of_the_model_s_width(embedder: Embedder) -> None:
    vectors = embedder.embed(["one", "two words", "three words here"])
    assert vectors.shape == (3, embedder.dimensions) == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_near_meanings_lie_near(embedder: Embedder) -> None:
    cat, kitten, tax = embedder.embed(["a cat sleeps", "the kitten is asleep", "income tax return"])
    assert cat @ kitten > 0.5 > cat @ tax


def test_nothing_in_nothing_out(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)
    assert embedder.count_tokens([]) == 0


def test_tokens_are_the_embedder_s(embedder: Embedder) -> None:
    assert embedder.count_tokens(["hello world"]) == 4  # with [CLS] and [SEP]
    assert embedder.count_tokens(["word " * 1000]) == embedder.window_tokens == 256


def test_it_says_its_own_name(embedder: Embedder) -> None:
    assert embedder.name == BUNDLED_NAME


def test_megabytes_are_cut_beyond_the_window_before_they_are_read(embedder: Embedder) -> None:
    long = "word " * 3_000_000
    assert embedder.count_tokens([long]) == 256
    np.testing.assert_allclose(embedder.embed([long]), embedder.embed(["word " * 1000]), atol=1e-6)
