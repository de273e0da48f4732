"""How well the base reads while it is trained: greedy answers about names that no training row has, in one pass."""

from __future__ import annotations

import random

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from . import rows
from .conversations import Conversation
from .reading import FactReadings

QUESTIONS, SOURCES, FACTS = 60, 3, 2
BATCH_TOKENS = 2048


class Exam:
    """The same questions each time it is told."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        facts, dice = FactReadings(held_out=True), random.Random("exam")
        self._pad = tokenizer.pad_token_id
        self._parts = {
            "read": self._rows(facts, dice, tokenizer, answered=True),
            "not said": self._rows(facts, dice, tokenizer, answered=False),
        }

    def told(self, model: LlamaForCausalLM) -> str:
        """`read 85 %, not said 90 %`: answers whose every token is the likeliest after those before it."""
        model.eval()
        shares = [f"{part} {_right(model, self._pad, chosen):.0%}" for part, chosen in self._parts.items()]
        model.train()
        return ", ".join(shares)

    def _rows(
        self, facts: FactReadings, dice: random.Random, tokenizer: PreTrainedTokenizerFast, *, answered: bool
    ) -> list[rows.Row]:
        chosen = []
        for _ in range(QUESTIONS):
            reading = facts.draw(dice, n_sources=SOURCES, most_facts=FACTS, answered=answered)
            messages = [{"role": "user", "content": reading.prompt}, {"role": "assistant", "content": reading.answer}]
            chosen.append(rows.conversation(Conversation(messages=messages), tokenizer, 0.0))
        return chosen


def _right(model: LlamaForCausalLM, pad: int, chosen: list[rows.Row]) -> float:
    right = 0
    for tokens, weights in rows.batches(chosen, pad, BATCH_TOKENS):
        answer = weights[:, 1:] > 0
        with torch.inference_mode():
            hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
            wrong = torch.zeros_like(answer)
            wrong[answer] = model.lm_head(hidden[answer]).argmax(-1) != tokens[:, 1:][answer]
        right += int((~wrong.any(1)).sum())
    return right / len(chosen)
