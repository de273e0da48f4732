from __future__ import annotations

from typing import Any

import pytest

from adapters.training.data.counting import Counts
from adapters.training.method import KINDS, Lora, Method
from adapters.training.plan import Plan, seconds_for, settle, usual_rate


def counts(n_examples: int, *, tokens_each: int = 50) -> Counts:
    n_tokens = n_examples * tokens_each
    return Counts(n_examples=n_examples, n_tokens=n_tokens, n_trained_tokens=n_tokens // 2, is_estimate=False, n_cut=0)


def settled(n_examples: int, kind: str = "supervised", **hyperparameters: Any) -> Plan:
    method = Method.model_validate({"type": kind, kind: {"hyperparameters": hyperparameters}})
    return settle(method, counts(n_examples), hidden_size=256)


@pytest.mark.parametrize(
    ("n_examples", "n_epochs", "batch_size"),
    [(1, 25, 1), (10, 25, 1), (80, 25, 4), (500, 4, 4), (3000, 3, 6), (10_000, 2, 16), (100_000, 1, 16)],
)
def test_less_data_is_repeated_more(n_examples: int, n_epochs: int, batch_size: int) -> None:
    plan = settled(n_examples)
    assert (plan.n_epochs, plan.batch_size) == (n_epochs, batch_size)
    assert plan.n_steps == n_epochs * -(-n_examples // batch_size)


def test_what_is_asked_for_stands() -> None:
    plan = settled(80, n_epochs=2, batch_size=8, learning_rate_multiplier=0.5, lora={"r": 4})
    assert plan.n_steps == 20
    assert plan.learning_rate == pytest.approx(0.5 * usual_rate("supervised", 256))
    assert plan.lora == Lora(r=4, alpha=8.0)


def test_the_rate_falls_with_the_width() -> None:
    rates = [usual_rate("supervised", width) for width in (64, 256, 896, 2048, 4096)]
    assert rates == sorted(rates, reverse=True)
    assert usual_rate("supervised", 4096) == pytest.approx(2e-4)
    assert usual_rate("supervised", 256) == pytest.approx(1.6e-3)
    assert usual_rate("dpo", 256) < usual_rate("supervised", 256) < usual_rate("prompt_tuning", 256)


def test_the_parents_shape_stays() -> None:
    parent = Lora(r=2, alpha=3.0, target_modules=("q_proj",))
    plan = settle(
        Method.model_validate({"supervised": {"hyperparameters": {"lora": {"r": 64}}}}), counts(9), parent=parent
    )
    assert plan.lora == parent


@pytest.mark.parametrize("kind", KINDS)
def test_hyperparameters_have_no_auto_left(kind: str) -> None:
    told = settled(80, kind).hyperparameters()
    assert "auto" not in told.values()
    as_told = Method.model_validate({"type": kind, kind: {"hyperparameters": told}})
    assert settle(as_told, counts(80), hidden_size=256) == settled(80, kind)
    assert ("beta" in told, "n_virtual_tokens" in told) == (kind == "dpo", kind == "prompt_tuning")


def test_texts_are_counted_in_rows() -> None:
    method = Method.model_validate({"type": "continued_pretraining"})
    plan = settle(method, counts(1000, tokens_each=100), context_tokens=500)
    assert plan.n_steps == plan.n_epochs * -(-200 // plan.batch_size)
    assert settle(method, counts(1000), n_rows=7).n_steps == plan_steps(method, 7)


def plan_steps(method: Method, n_rows: int) -> int:
    plan = settle(method, counts(1000), n_rows=n_rows)
    return plan.n_epochs * -(-n_rows // plan.batch_size)


def test_more_work_takes_longer() -> None:
    plan = settled(80)
    small = seconds_for(counts(80), plan, 6_000_000, None)
    assert small < seconds_for(counts(800), plan, 6_000_000, None) < seconds_for(counts(800), plan, 600_000_000, None)
    assert seconds_for(counts(80), plan, 1, 1000.0) == pytest.approx(25 + 80 * 50 * plan.n_epochs / 1000)
