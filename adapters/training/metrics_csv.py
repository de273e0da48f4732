"""The result file of a job: one line for each step, in OpenAI's columns with two of ours.

https://platform.openai.com/docs/guides/supervised-fine-tuning (step, train_loss, train_accuracy, valid_loss,
valid_mean_token_accuracy)
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from adapters.training.history import Step

COLUMNS = (
    *("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"),
    *("learning_rate", "tokens"),
)


def metrics_csv(steps: Iterable[Step]) -> bytes:
    """UTF-8, a header, then one line for each step; what was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for step in steps:
        writer.writerow(
            (
                step.number,
                _told(step.train_loss),
                _told(step.train_mean_token_accuracy),
                _told(step.valid_loss),
                _told(step.valid_mean_token_accuracy),
                f"{step.learning_rate:.4g}",
                step.n_tokens,
            )
        )
    return text.getvalue().encode()


def _told(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"
