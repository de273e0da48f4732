"""What `auto` comes to: epochs, batch, learning rate and steps from the size of the data and of the base.

The best rate of LoRA falls with the width of the base: 2e-4 is usual at 4,096 (arXiv 2305.14314). On the demo base
(width 256) 80 question-answer pairs, 13 times in batches of 4, were answered exactly by 76 % at 1.6e-3 and by 39 % at
5e-3; the rule goes through both ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adapters.training.method import Hyperparameters, Kind, Lora, Method

if TYPE_CHECKING:
    from adapters.training.data.counting import Counts

EXAMPLES_SEEN = 2000  # fewer examples are repeated until about as many have been seen
MAX_EPOCHS = 25
MIN_EPOCHS = 3
ENOUGH_EXAMPLES = 25_000  # epochs go below MIN_EPOCHS when as many are seen in fewer
TEXT_ROWS_SEEN = 100  # a row of continued pretraining is a whole context
BATCH_SHARE = 0.002
MAX_BATCH = 16
SMALL_BATCH, SMALL_BATCH_STEPS = 4, 8  # as many at least, where an epoch still has so many steps: single ones cost more

RATE_AT_WIDTH = (2e-4, 4096)
RATE_EXPONENT = 0.75
MAX_RATE = 5e-3
# of LoRA's rate: preferences need far less, a soft prompt far more
RATE_OF_KIND: dict[Kind, float] = {
    "supervised": 1.0,
    "dpo": 0.1,
    "continued_pretraining": 1.0,
    "prompt_tuning": 10.0,
}
USUAL_WIDTH = 2048  # where the base's is not known
TEXT_ROW_TOKENS = 2048
DPO_BETA = 0.1
N_VIRTUAL_TOKENS = 16

# one core of a server; measured on the demo base, where the estimate has to hold first
FLOPS_PER_SECOND = 2e10
PASSES: dict[Kind, float] = {  # forward passes that a token costs; going back through frozen weights is one more
    "supervised": 2.0,
    "dpo": 3.0,  # the reference's too
    "continued_pretraining": 2.0,
    "prompt_tuning": 2.0,
}
START_SECONDS = 25.0  # importing the libraries, reading the data, loading the base


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that was `auto`, settled."""

    kind: Kind
    n_epochs: int
    batch_size: int  # examples of one optimizer step; of continued pretraining, rows
    learning_rate_multiplier: float
    learning_rate: float
    n_steps: int
    lora: Lora | None = None
    beta: float | None = None
    n_virtual_tokens: int | None = None
    quantization: Literal["nf4"] | None = None

    def hyperparameters(self) -> dict[str, Any]:
        """As settled, under the names of OpenAI's job object."""
        told: dict[str, Any] = {
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        if self.beta is not None:
            told["beta"] = self.beta
        if self.n_virtual_tokens is not None:
            told["n_virtual_tokens"] = self.n_virtual_tokens
        if self.lora is not None:
            told |= {"lora": self.lora.model_dump(mode="json"), "quantization": self.quantization}
        return told


def settle(
    method: Method,
    counts: Counts,
    *,
    n_rows: int | None = None,
    hidden_size: int | None = None,
    context_tokens: int | None = None,
    parent: Lora | None = None,
) -> Plan:
    """The plan for data of that size.

    n_rows: rows that are trained on, where they are known: the examples, or what packing made of the texts.
    hidden_size: the base's width, which the learning rate depends on. context_tokens: of the base; the rows of
    continued pretraining are guessed by it. parent: the shape of the adapter that training goes on from, which stays.
    """
    asked = method.hyperparameters
    kind = method.type
    if n_rows is None:
        n_rows = n_text_rows(counts, context_tokens) if kind == "continued_pretraining" else counts.n_examples
    n_epochs = _epochs(kind, n_rows) if asked.n_epochs == "auto" else asked.n_epochs
    batch_size = _batch(n_rows) if asked.batch_size == "auto" else asked.batch_size
    multiplier = 1.0 if asked.learning_rate_multiplier == "auto" else asked.learning_rate_multiplier
    is_prompt = kind == "prompt_tuning"
    return Plan(
        kind=kind,
        n_epochs=n_epochs,
        batch_size=batch_size,
        learning_rate_multiplier=multiplier,
        learning_rate=multiplier * usual_rate(kind, hidden_size),
        n_steps=n_epochs * math.ceil(n_rows / batch_size),
        lora=None if is_prompt else parent or _shape(asked),
        beta=None if kind != "dpo" else DPO_BETA if asked.beta == "auto" else asked.beta,
        n_virtual_tokens=_n_virtual_tokens(asked) if is_prompt else None,
        quantization=None if is_prompt else asked.quantization,
    )


def usual_rate(kind: Kind, hidden_size: int | None) -> float:
    """AdamW's rate for a multiplier of 1: 1.6e-3 at the demo's width of 256, 2e-4 at 4,096."""
    rate, width = RATE_AT_WIDTH
    scaled: float = rate * (width / (hidden_size or USUAL_WIDTH)) ** RATE_EXPONENT
    return min(scaled, MAX_RATE) * RATE_OF_KIND[kind]


def text_row_tokens(context_tokens: int | None) -> int:
    """Tokens of one row of continued pretraining; attention costs the square of it."""
    return min(context_tokens or TEXT_ROW_TOKENS, TEXT_ROW_TOKENS)


def n_text_rows(counts: Counts, context_tokens: int | None) -> int:
    """About as many as packing makes of the texts."""
    return max(1, math.ceil(counts.n_tokens / text_row_tokens(context_tokens)))


def seconds_for(counts: Counts, plan: Plan, n_parameters: int, tokens_per_second: float | None) -> float:
    """How long training will take, to the factor of two that the machine and the lengths leave open.

    n_parameters: of the base. tokens_per_second: measured on this machine with this base, where known.
    """
    tokens = counts.n_tokens * plan.n_epochs
    if tokens_per_second is None:
        flops = 2 * n_parameters * PASSES[plan.kind]
        tokens_per_second = FLOPS_PER_SECOND / max(1, flops)
    return START_SECONDS + tokens / tokens_per_second


def _epochs(kind: Kind, n_rows: int) -> int:
    if kind == "continued_pretraining":
        return max(1, min(10, TEXT_ROWS_SEEN // max(1, n_rows)))
    if n_rows * MIN_EPOCHS > ENOUGH_EXAMPLES:
        return max(1, ENOUGH_EXAMPLES // n_rows)
    return max(MIN_EPOCHS, min(MAX_EPOCHS, math.ceil(EXAMPLES_SEEN / max(1, n_rows))))


def _batch(n_rows: int) -> int:
    small = min(SMALL_BATCH, n_rows // SMALL_BATCH_STEPS)
    return max(1, small, min(MAX_BATCH, round(n_rows * BATCH_SHARE)))


def _shape(asked: Hyperparameters) -> Lora:
    lora = asked.lora
    return lora if lora.alpha is not None else lora.model_copy(update={"alpha": 2.0 * lora.r})


def _n_virtual_tokens(asked: Hyperparameters) -> int:
    return N_VIRTUAL_TOKENS if asked.n_virtual_tokens == "auto" else asked.n_virtual_tokens
