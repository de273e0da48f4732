from __future__ import annotations

from bench.shared.texts import documents


def test_the_same_seed_gives_the_same_texts() -> None:
    assert documents(3, sentences=4, seed=1) == documents(3, sentences=4, seed=1)
    assert len(documents(3, sentences=4, seed=1)) == 3


def test_no_paragraph_comes_twice() -> None:
    texts = [text for seed in (1, 2, 11) for text in documents(12, sentences=11, seed=seed).values()]
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n\n")]
    assert len(paragraphs) == 3 * 12 * 11
    assert len(set(paragraphs)) == len(paragraphs)
