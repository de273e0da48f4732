from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from adapters.training.packing import keeps_apart, micro_batch
from adapters.training.rows import packed, rows_of
from tests.adapters.training.runs import BASE, QUESTIONS, chats


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,  # attention that matters
    )
    return LlamaForCausalLM(config).eval()


def losses(model: Any, batch: dict[str, Any]) -> tuple[float, int]:
    """(sum, tokens) of the loss, from the logits alone."""
    labels = batch["labels"]
    given = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        logits = model(**given, use_cache=False).logits[:, :-1]  # as trl; with a cache positions part nothing
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    return float(each), int((labels[:, 1:] != -100).sum())


def test_examples_in_one_row_do_not_see_each_other(model: Any, tmp_path: Path) -> None:
    rows = rows_of(chats(tmp_path / "a.jsonl"), "supervised", BASE, context_tokens=512)
    examples = list(rows.data)
    together = losses(model, DataCollatorForLanguageModeling(0, padding_free=True)(examples))
    alone = [losses(model, DataCollatorForLanguageModeling(0)([example])) for example in examples]
    padded = losses(model, DataCollatorForLanguageModeling(0)(examples))
    assert together[0] == pytest.approx(sum(loss for loss, _ in alone), rel=1e-5)
    assert padded[0] == pytest.approx(together[0], rel=1e-5)
    assert together[1] == sum(n for _, n in alone) == rows.counts.n_trained_tokens


def test_texts_in_one_row_do_not_see_each_other(model: Any, tmp_path: Path) -> None:
    texts = tmp_path / "t.jsonl"
    texts.write_text("".join(f'{{"text": "{question} {answer}"}}\n' for question, answer in QUESTIONS))
    apart = rows_of(texts, "continued_pretraining", BASE, context_tokens=64)
    shared = packed(apart, 64)
    assert len(shared) < len(apart)
    together = [losses(model, DataCollatorForLanguageModeling(0, padding_free=True)([row])) for row in shared.data]
    alone = [losses(model, DataCollatorForLanguageModeling(0)([row])) for row in apart.data]
    assert sum(loss for loss, _ in together) == pytest.approx(sum(loss for loss, _ in alone), rel=1e-5)
    assert sum(n for _, n in together) == sum(n for _, n in alone)


def test_what_a_base_does_is_tried(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[5, 6, 7, 8, 9], [10, 11, 12, 13]]
    assert keeps_apart(model, rows)
    plain = type(model).forward

    def leaking(self: Any, *, position_ids: Any = None, **given: Any) -> Any:
        return plain(self, **given)  # an architecture that does not look at positions

    monkeypatch.setattr(type(model), "forward", leaking)
    assert not keeps_apart(model, rows)


@pytest.mark.parametrize(
    ("batch_size", "lengths", "hidden_size", "at_once"),
    [
        (4, [30] * 80, 256, 4),
        (16, [30] * 80, 256, 16),
        (16, [100] * 80, 256, 4),
        (6, [100] * 80, 256, 3),
        (8, [400] * 9, 256, 1),
        (8, [400] * 9, 2048, 8),
        (8, [20] * 100 + [2000] * 4, 256, 1),  # four of the longest would fill four times a row
        (1, [5000], 256, 1),
    ],
)
def test_a_step_has_exactly_its_examples(batch_size: int, lengths: list[int], hidden_size: int, at_once: int) -> None:
    assert micro_batch(batch_size, lengths, hidden_size) == at_once
    assert batch_size % at_once == 0
