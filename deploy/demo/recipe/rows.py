"""Rows of tokens with a weight for each: conversations packed together, and pieces of books."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from .conversations import Conversation
from .folder import DataFolder

QUESTION_WEIGHT, BOOK_WEIGHT = 0.1, 0.3  # against 1 for what the assistant says
Row = tuple[list[int], list[float]]


def conversation(drawn: Conversation, tokenizer: PreTrainedTokenizerFast, question_weight: float) -> Row:
    """Tokens of a conversation; the assistant's own tokens, its end token among them, weigh 1."""
    rendered: Any = tokenizer.apply_chat_template(
        drawn.messages, tools=drawn.tools or None, return_dict=True, return_assistant_tokens_mask=True
    )
    return rendered["input_ids"], [1.0 if mask else question_weight for mask in rendered["assistant_masks"]]


def packed(
    draw: Callable[[random.Random], Conversation], tokenizer: PreTrainedTokenizerFast, dice: random.Random, length: int
) -> Row:
    """Conversations one after the other, parted by the end-of-text token, cut at `length` tokens."""
    tokens: list[int] = []
    weights: list[float] = []
    while len(tokens) < length:
        more, more_weights = conversation(draw(dice), tokenizer, QUESTION_WEIGHT)
        tokens += [*more, tokenizer.pad_token_id]
        weights += [*more_weights, 0.0]
    return tokens[:length], weights[:length]


def book(data: DataFolder, tokenizer: PreTrainedTokenizerFast, dice: random.Random, length: int) -> Row:
    """A piece of a book from a random place, cut at `length` tokens."""
    text = dice.choice(dice.choice(data.books))
    start = dice.randrange(max(1, len(text) - 8 * length))
    tokens: list[int] = tokenizer(text[start : start + 8 * length], verbose=False)["input_ids"][:length]
    return tokens, [BOOK_WEIGHT] * len(tokens)


def batch(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, targets (rows, length - 1) and the targets' weights; padding weighs nothing."""
    length = max(len(tokens) for tokens, _ in rows)
    tokens = torch.tensor([row + [pad] * (length - len(row)) for row, _ in rows])
    weights = torch.tensor([weight + [0.0] * (length - len(weight)) for _, weight in rows])
    return tokens[:, :-1], tokens[:, 1:], weights[:, 1:]


def loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, nats per token, averaged by weight."""
    each = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum()
