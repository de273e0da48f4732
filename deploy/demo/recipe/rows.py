"""Rows of tokens with a weight for each: conversations, alone or packed together, and pieces of books."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from .conversations import Conversation
from .folder import DataFolder

QUESTION_WEIGHT, BOOK_WEIGHT = 0.1, 0.3  # against 1 for what the assistant says
TALK_WEIGHT = 0.4  # of it all where no source is read: it is learnt by heart sooner
SOURCE_WEIGHT = 0.06  # sources are long; together they should weigh about as much as the answer
MARKER_OPENING, MARKER_WEIGHT = "Ġ[", 4.0  # one token of thirty, and the hardest
LEARNT_SHARE = 0.2  # of the tokens that are not the assistant's; they weigh five times as much instead
Row = tuple[list[int], list[float]]


def conversation(drawn: Conversation, tokenizer: PreTrainedTokenizerFast, question_weight: float) -> Row:
    """Tokens of a conversation; the assistant's own, its end token among them, weigh 1, the numbers of markers more."""
    rendered: Any = tokenizer.apply_chat_template(
        drawn.messages, tools=drawn.tools or None, return_dict=True, return_assistant_tokens_mask=True
    )
    tokens, masks = rendered["input_ids"], rendered["assistant_masks"]
    opening = tokenizer.convert_tokens_to_ids(MARKER_OPENING)
    return tokens, [
        question_weight if not mask else MARKER_WEIGHT if before == opening else 1.0
        for before, mask in zip((None, *tokens), masks, strict=False)
    ]


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
    return tokens[:length], [TALK_WEIGHT * weight for weight in weights[:length]]


def book(data: DataFolder, tokenizer: PreTrainedTokenizerFast, dice: random.Random, length: int) -> Row:
    """A piece of a book from a random place, cut at `length` tokens."""
    text = dice.choice(dice.choice(data.books))
    start = dice.randrange(max(1, len(text) - 8 * length))
    tokens: list[int] = tokenizer(text[start : start + 8 * length], verbose=False)["input_ids"][:length]
    return tokens, [BOOK_WEIGHT] * len(tokens)


def thinned(row: Row, dice: random.Random) -> Row:
    """The same weight on fewer tokens: predicting each of 4,096 is half of a step's work, and most are no answer."""
    tokens, weights = row
    return tokens, [
        weight
        if weight == 0.0 or weight >= TALK_WEIGHT
        else weight / LEARNT_SHARE
        if dice.random() < LEARNT_SHARE
        else 0.0
        for weight in weights
    ]


def batches(rows: Iterable[Row], pad: int, most_tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Tokens (rows, length) and their weights, rows of like length together, at most so many tokens with padding."""
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row[0])):
        if group and (len(group) + 1) * len(row[0]) > most_tokens:
            yield batch(group, pad)
            group = []
        group.append(row)
    if group:
        yield batch(group, pad)


def batch(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (rows, length) and their weights; padding weighs nothing."""
    length = max(len(tokens) for tokens, _ in rows)
    tokens = torch.tensor([row + [pad] * (length - len(row)) for row, _ in rows])
    weights = torch.tensor([weight + [0.0] * (length - len(weight)) for _, weight in rows])
    return tokens, weights


def loss(model: LlamaForCausalLM, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum of cross-entropy, nats, times weight; only tokens that weigh something are predicted at all."""
    weights = weights[:, 1:]
    heavy = weights > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state[heavy]
        logits = model.lm_head(hidden)
    each = torch.nn.functional.cross_entropy(logits.float(), tokens[:, 1:][heavy], reduction="none")
    return (each * weights[heavy]).sum()
