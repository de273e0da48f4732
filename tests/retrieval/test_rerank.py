from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from retrieval.rerank import CrossEncoderReranker

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rent", "notice", "is", "due", "the"]


def saved_model(folder: Path, n_outputs: int) -> str:
    """A cross-encoder of a few kilobytes with random weights."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, num_labels=n_outputs, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    BertTokenizerFast(vocab=vocabulary, model_max_length=32).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderReranker:
    return CrossEncoderReranker(saved_model(tmp_path_factory.mktemp("reranker"), 1))


def test_scores_are_between_0_and_1_and_each_passages_own(reranker: CrossEncoderReranker) -> None:
    passages = ["the rent is due", "notice " * 200, "", "the rent"]
    scores = reranker.scores("is the rent due", passages)
    assert scores.shape == (4,)
    assert ((scores > 0) & (scores < 1)).all()
    assert len(np.unique(scores)) == 4
    for passage, score in zip(passages, scores, strict=True):
        assert reranker.scores("is the rent due", [passage])[0] == pytest.approx(score, abs=1e-5)
    assert reranker.scores("is the rent due", []).shape == (0,)


def test_threads_take_turns(reranker: CrossEncoderReranker) -> None:
    expected = reranker.scores("notice", ["the rent", "notice"])
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(reranker.scores("notice", ["the rent", "notice"])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for scores in found:
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_a_model_of_several_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives 3 numbers"):
        CrossEncoderReranker(saved_model(tmp_path / "three", 3))
