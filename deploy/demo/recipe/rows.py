"""Rows of tokens with a weight for each: one conversation a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from .conversations import Conversation

QUESTION_WEIGHT = 0.1  # against 1 for what the assistant says
MARKER_OPENING, MARKER_WEIGHT = "Ġ[", 4.0  # one token of thirty, and the hardest
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
    hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state[heavy]
    logits = model.lm_head(hidden)
    each = torch.nn.functional.cross_entropy(logits, tokens[:, 1:][heavy], reduction="none")
    return (each * weights[heavy]).sum()
