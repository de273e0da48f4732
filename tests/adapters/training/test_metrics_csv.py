from __future__ import annotations

import csv
import io
from dataclasses import replace

from adapters.training.history import Step
from adapters.training.metrics_csv import metrics_csv

STEP = Step(
    number=1,
    n_steps=2,
    epoch=0.5,
    train_loss=2.5,
    train_mean_token_accuracy=0.25,
    valid_loss=None,
    valid_mean_token_accuracy=None,
    learning_rate=0.0016,
    n_tokens=118,
    is_kept=False,
)


def test_openais_columns_come_first() -> None:
    second = replace(STEP, number=2, valid_loss=1.25, valid_mean_token_accuracy=0.5, n_tokens=227)
    first, last = csv.DictReader(io.StringIO(metrics_csv([STEP, second]).decode()))
    assert list(first)[:5] == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert first == {
        "step": "1",
        "train_loss": "2.50000",
        "train_accuracy": "0.25000",
        "valid_loss": "",
        "valid_mean_token_accuracy": "",
        "learning_rate": "0.0016",
        "tokens": "118",
    }
    assert (last["step"], last["valid_loss"], last["tokens"]) == ("2", "1.25000", "227")


def test_no_step_is_a_header() -> None:
    assert metrics_csv([]).count(b"\n") == 1
