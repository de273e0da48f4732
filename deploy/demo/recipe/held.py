"""A task's held-out part: what is asked, and what the answers of a model are worth, with its adapter and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from .answers import MAX_NEW_TOKENS, Messages, answers, user
from .memory import Memory

Scores = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """No training row has what is asked."""

    asked: Sequence[str]
    instruction: str  # a system prompt that asks the base for what the adapter does unasked
    score: Callable[[Sequence[str]], Scores]  # of the answers, in the order of what is asked
    most_tokens: int = MAX_NEW_TOKENS
    no_model: Scores = field(default_factory=dict)  # the same scores for what no model is needed for


def compare(worn: PeftModel, words: PreTrainedTokenizerFast, held: Held, memory: Memory) -> dict[str, float]:
    """Each score by its name for the adapter, with ", base" behind it for the base as it is, ", base told to" for the
    base under the instruction, ", no model" where held has that."""

    def scores(who: str, *before: str) -> Scores:
        opening: Messages = [{"role": "system", "content": one} for one in before]
        asked = [[*opening, user(text)] for text in held.asked]
        most = held.most_tokens
        return held.score(memory.recall(asked, most, who, lambda: answers(worn, words, asked, most_tokens=most)))

    figures = scores("adapter")
    with worn.disable_adapter():
        others = {"base": scores("base"), "base told to": scores("base", held.instruction), "no model": held.no_model}
    return figures | {f"{name}, {who}": score for who, named in others.items() for name, score in named.items()}
