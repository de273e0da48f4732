from __future__ import annotations

import pytest

from retrieval.scores import UNMEASURED, WEIGHTS, dense_weight


def test_an_english_embedder_leaves_other_languages_to_words() -> None:
    english = dense_weight("all-MiniLM-L6-v2", {"en": 10})
    portuguese = dense_weight("all-MiniLM-L6-v2", {"pt": 3})
    assert portuguese < english
    assert dense_weight("all-MiniLM-L6-v2", {"en": 1, "pt": 1}) == pytest.approx((english + portuguese) / 2)
    assert dense_weight("all-MiniLM-L6-v2", {"und": 5}) == portuguese
    assert dense_weight("sentence-transformers/all-MiniLM-L6-v2", {"en": 1}) == english


def test_embedders_that_nobody_measured_count_as_much_as_words() -> None:
    assert dense_weight("intfloat/multilingual-e5-small", {"pt": 1}) == UNMEASURED.others == 0.5
    assert dense_weight("all-MiniLM-L6-v2", {}) == WEIGHTS["all-MiniLM-L6-v2"].others


def test_weights_are_shares() -> None:
    for weights in (*WEIGHTS.values(), UNMEASURED):
        assert all(0 <= w <= 1 for w in (weights.others, *weights.languages.values()))
