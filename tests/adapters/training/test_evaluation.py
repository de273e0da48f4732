"""On the demo base: what one forward pass says is what loss and decoding say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from adapters.training.data.chat import Chat
from adapters.training.data.reading import read
from adapters.training.data.rendering import Renderer
from adapters.training.evaluation import _Scorer, evaluate, evaluate_both
from tests.adapters.training.runs import BASE, chats, order, run

LABELS = [(f"Gostei {much} do atendimento.", "positivo") for much in ("muito", "demais", "bastante")] + [
    (f"Esperei {much} e ninguém veio.", "negativo") for much in ("muito", "demais", "bastante")
]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(file, an adapter that was trained on it)."""
    folder = tmp_path_factory.mktemp("labelled")
    path = chats(folder / "labels.jsonl", LABELS)
    return path, run(folder / "work", order(path, n_epochs=12)).folder


def test_base_and_adapter(labelled: tuple[Path, Path]) -> None:
    path, adapter = labelled
    both = evaluate_both(BASE, adapter, path, "supervised", context_tokens=512)
    assert both["adapter"]["loss"] < both["base"]["loss"]
    assert both["adapter"]["accuracy"] == both["adapter"]["exact_match"] == 1.0
    assert both["base"]["exact_match"] == 0.0
    for name, folder in (("base", None), ("adapter", adapter)):
        alone = evaluate(BASE, folder, path, "supervised", context_tokens=512).as_object()
        assert alone == pytest.approx(both[name])
        assert alone["perplexity"] == pytest.approx(math.exp(alone["loss"]))
        assert alone["n"] == 6


def test_answers_after_a_prompt_score_as_in_one_row() -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    scorer = _Scorer(model, n_virtual_tokens=0)
    prompt, answers = [1, 40, 41, 42], [[50, 51, 2], [60, 2], [70]]
    alone = [sum(scorer.tokens([*prompt, *answer])[0][len(prompt) - 1 :]) for answer in answers]
    assert scorer.answers(prompt, answers) == pytest.approx(alone, rel=1e-4)
    assert scorer.answers(prompt, [[70], [71]])[0] == pytest.approx(alone[2], rel=1e-4)


def test_exact_match_is_what_greedy_decoding_gives(labelled: tuple[Path, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    rendered = Renderer(BASE, context_tokens=512).chat(
        next(one for one in read(labelled[0], "supervised") if isinstance(one, Chat))
    )
    prompt = rendered.tokens[: rendered.trained.index(True)]
    with torch.no_grad():
        greedy = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=6,
            do_sample=False,
        )[0].tolist()
    _, right = _Scorer(model, n_virtual_tokens=0).tokens(greedy)
    assert all(right[len(prompt) - 1 :])


def test_long_and_varied_answers_are_no_labels(tmp_path: Path) -> None:
    long = "A resposta é longa e diz muitas coisas que ninguém perguntou. " * 12
    path = chats(tmp_path / "long.jsonl", [("Oi?", long), ("Olá?", long + "Fim.")])
    found = evaluate(BASE, None, path, "supervised", context_tokens=1024)
    assert (found.exact_match, found.accuracy) == (None, None)
    assert 0 < found.token_accuracy < 1


def test_at_most_so_many_examples(labelled: tuple[Path, Path]) -> None:
    assert evaluate(BASE, None, labelled[0], "supervised", context_tokens=512, most=2).n == 2


def test_text_and_preferences(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text(json.dumps({"text": "A clínica abre às oito horas da manhã."}) + "\n")
    found = evaluate(BASE, None, text, "continued_pretraining", context_tokens=512)
    assert (found.n, found.exact_match, found.accuracy) == (1, None, None)
    pair = {
        "input": {"messages": [{"role": "user", "content": "Hello"}]},
        "preferred_output": [{"role": "assistant", "content": "Hello! How can I help you?"}],
        "non_preferred_output": [{"role": "assistant", "content": "zxq vvk qqw zzt kkx wwq xxz" * 3}],
    }
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps(pair) + "\n")
    assert evaluate(BASE, None, pairs, "dpo", context_tokens=512).accuracy == 1.0
