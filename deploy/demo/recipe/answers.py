"""Greedy answers of a model, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

Messages = list[dict[str, Any]]
AT_ONCE, MAX_NEW_TOKENS = 16, 120


def answers(
    model: Any, words: PreTrainedTokenizerFast, asked: Sequence[Messages], *, most_tokens: int = MAX_NEW_TOKENS
) -> list[str]:
    """What it says to each conversation, in their order; what goes on after `most_tokens` is cut there."""
    by_length = sorted(range(len(asked)), key=lambda place: len(asked[place][-1]["content"]))  # little padding
    said: dict[int, str] = {}
    for some in _slices(by_length):
        texts = _said(model, words, [asked[place] for place in some], most_tokens)
        said |= dict(zip(some, texts, strict=True))
    return [said[place] for place in range(len(asked))]


def answer(model: Any, words: PreTrainedTokenizerFast, question: str) -> str:
    """What it says to one question."""
    return _said(model, words, [[user(question)]], MAX_NEW_TOKENS)[0]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _said(model: Any, words: PreTrainedTokenizerFast, asked: list[Messages], most_tokens: int) -> list[str]:
    words.padding_side = "left"
    prompts: Any = words.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
    )
    with torch.inference_mode():
        said = model.generate(**prompts, max_new_tokens=most_tokens, do_sample=False)
    texts = words.batch_decode(said[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    return [str(text) for text in texts]


def _slices(order: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(order), AT_ONCE):
        yield order[start : start + AT_ONCE]
