"""Token ids of cl100k_base become the text they were made from."""

from __future__ import annotations

import pytest

from retrieval import cl100k


def test_ids_that_openai_publishes() -> None:
    # the example of OpenAI's cookbook "How to count tokens with tiktoken"
    assert cl100k.decode([83, 1609, 5963, 374, 2294, 0]) == "tiktoken is great!"


def test_a_character_split_over_tokens_is_whole_again() -> None:
    whole = "ação 🦊"
    ids = _encode_bytewise(whole)
    assert cl100k.decode(ids) == whole
    assert cl100k.decode(ids[:-1]).endswith("�")


@pytest.mark.parametrize("bad", [100257, -1, 10**9])
def test_ids_without_text_are_named(bad: int) -> None:
    with pytest.raises(cl100k.UnknownToken, match=str(bad)):
        cl100k.decode([83, bad])


def test_the_file_is_the_published_one() -> None:
    assert len(cl100k._table()) == 100256


def _encode_bytewise(text: str) -> list[int]:
    """One token per byte: every byte has a token of its own."""
    by_bytes = {token: rank for rank, token in cl100k._table().items()}
    return [by_bytes[bytes([byte])] for byte in text.encode()]
