"""What an adapter is worth on labelled examples, beside its base. Only the training child imports torch through this.

One forward pass for each example gives its loss and whether greedy decoding would answer it word for word: greedy
decoding follows the labels exactly as long as each of them is the likeliest token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.training.method import Kind

MOST_ANSWER_TOKENS = 64  # longer answers are not asked for word by word
MOST_LABELS = 50
MOST_LABEL_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Of a model on examples. Losses in nats for each trained token."""

    n: int  # examples
    loss: float
    perplexity: float
    token_accuracy: float  # share of trained tokens that are the likeliest
    exact_match: float | None  # share of short answers that greedy decoding gives; None where none is short
    accuracy: float | None  # share of examples whose label is the likeliest; of preferences, chosen over rejected

    def as_object(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Example:
    """A row of tokens; the answer is the last stretch that the loss is taken over, to its end-of-turn token."""

    tokens: Sequence[int]
    trained: Sequence[bool]
    rejected: Sequence[int] = ()  # of preferences: the other answer

    @property
    def answer(self) -> tuple[int, int]:
        """(start, end) of the last stretch."""
        end = len(self.trained)
        while end and not self.trained[end - 1]:
            end -= 1
        start = end
        while start and self.trained[start - 1]:
            start -= 1
        return start, end


def evaluate(
    base: Path,
    adapter: Path | None,
    examples: Path,
    kind: Kind,
    *,
    context_tokens: int,
    device: str = "cpu",
    most: int = 200,
) -> Evaluation:
    """The base, with the adapter where one is given, on at most `most` of the file's examples, evenly spread."""
    from adapters.training import base_loading

    model = base_loading.load(base, device=device)
    if adapter is not None:
        model = _with(model, adapter)
    rows = _examples(examples, kind, base, context_tokens, most)
    return _evaluated(model.eval(), rows, kind)


def evaluate_both(
    base: Path,
    adapter: Path,
    examples: Path,
    kind: Kind,
    *,
    context_tokens: int,
    device: str = "cpu",
    most: int = 200,
) -> dict[str, dict[str, Any]]:
    """`{"base": …, "adapter": …}`, the fields of Evaluation; the base is loaded once."""
    from adapters.training import base_loading

    model = _with(base_loading.load(base, device=device), adapter).eval()
    rows = _examples(examples, kind, base, context_tokens, most)
    tuned = _evaluated(model, rows, kind)
    with model.disable_adapter():
        bare = _evaluated(model, rows, kind, is_bare=True)
    return {"base": bare.as_object(), "adapter": tuned.as_object()}


def _with(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, adapter)


def _examples(path: Path, kind: Kind, base: Path, context_tokens: int, most: int) -> list[_Example]:
    from adapters.training.rows import IGNORED, rows_of

    rows = rows_of(path, kind, base, context_tokens=context_tokens, most=most)
    if kind != "dpo":
        return [_Example(row["input_ids"], [label != IGNORED for label in row["labels"]]) for row in rows.data]
    return [
        _Example(
            [*row["prompt_ids"], *row["chosen_ids"]],
            [False] * len(row["prompt_ids"]) + [True] * len(row["chosen_ids"]),
            row["rejected_ids"],
        )
        for row in rows.data
    ]


def _evaluated(model: Any, examples: Sequence[_Example], kind: Kind, *, is_bare: bool = False) -> Evaluation:
    scorer = _Scorer(model, n_virtual_tokens=0 if is_bare else _n_virtual_tokens(model))
    loss, n_right, n_trained, exact = 0.0, 0, 0, []
    for example in examples:
        likely, right = scorer.tokens(example.tokens)
        trained = [place - 1 for place in range(1, len(example.tokens)) if example.trained[place]]
        loss -= sum(likely[place] for place in trained)
        n_right += sum(right[place] for place in trained)
        n_trained += len(trained)
        start, end = example.answer
        if kind != "continued_pretraining" and start > 0 and end - start <= MOST_ANSWER_TOKENS:
            exact.append(all(right[place - 1] for place in range(start, end)))
    mean = loss / max(1, n_trained)
    return Evaluation(
        n=len(examples),
        loss=mean,
        perplexity=math.exp(min(mean, 700.0)),
        token_accuracy=n_right / max(1, n_trained),
        exact_match=_share(exact) if kind != "dpo" else None,
        accuracy=_preferred(scorer, examples) if kind == "dpo" else _classified(scorer, examples, kind),
    )


def _preferred(scorer: _Scorer, examples: Sequence[_Example]) -> float | None:
    won = []
    for example in examples:
        start, _ = example.answer
        chosen, rejected = scorer.answers(example.tokens[:start], [example.tokens[start:], example.rejected])
        won.append(chosen > rejected)
    return _share(won)


def _classified(scorer: _Scorer, examples: Sequence[_Example], kind: Kind) -> float | None:
    """By the label that is the likeliest answer; None where the answers are not a few short labels."""
    if kind == "continued_pretraining":
        return None
    answers = [tuple(example.tokens[slice(*example.answer)]) for example in examples]
    labels = sorted(set(answers))
    if not 2 <= len(labels) <= min(MOST_LABELS, len(examples) // 2):
        return None
    if max(len(label) for label in labels) > MOST_LABEL_TOKENS + 1:  # and the end of the turn
        return None
    right = []
    for example, answer in zip(examples, answers, strict=True):
        start, _ = example.answer
        scores = scorer.answers(example.tokens[:start], labels)
        right.append(labels[max(range(len(labels)), key=scores.__getitem__)] == answer)
    return _share(right)


def _share(these: Iterable[bool]) -> float | None:
    found = list(these)
    return sum(found) / len(found) if found else None


class _Scorer:
    """Log-likelihoods by one model; a soft prompt's tokens stand before the row and are no part of what is told."""

    def __init__(self, model: Any, *, n_virtual_tokens: int) -> None:
        self._model = model
        self._n_virtual_tokens = n_virtual_tokens
        self._device = next(model.parameters()).device

    def tokens(self, row: Sequence[int]) -> tuple[list[float], list[bool]]:
        """For each token but the first: its log-likelihood after those before it, and whether it is the likeliest."""
        import torch

        with torch.no_grad():
            ids = torch.tensor([list(row)], device=self._device)
            logits = self._model(input_ids=ids, use_cache=False).logits[0, self._n_virtual_tokens : -1].float()
            likely = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            right = logits.argmax(-1) == ids[0, 1:]
        return likely.tolist(), right.tolist()

    def answers(self, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[float]:
        """The log-likelihood of each answer after the prompt, which is read once where the model can be asked so."""
        import torch

        longest = max(len(answer) for answer in answers)
        padded = torch.zeros((len(answers), longest), dtype=torch.long, device=self._device)
        mask = torch.zeros((len(answers), longest), device=self._device)
        for number, answer in enumerate(answers):
            padded[number, : len(answer)] = torch.tensor(list(answer), device=self._device)
            mask[number, : len(answer)] = 1.0
        with torch.no_grad():
            logits = self._after(list(prompt), padded)
            likely = logits.float().log_softmax(-1).gather(-1, padded[..., None])[..., 0]
        return [float(score) for score in (likely * mask).sum(-1)]

    def _after(self, prompt: list[int], answers: Any) -> Any:
        """Logits (n, tokens of an answer, vocabulary) that predict the answers' tokens."""
        import torch

        n, longest = answers.shape
        whole = torch.tensor([prompt], device=self._device)
        if self._n_virtual_tokens:  # PEFT gives the soft prompt anew on every call
            rows = torch.cat([whole.expand(n, -1), answers], dim=1)
            return self._model(input_ids=rows, use_cache=False).logits[:, -longest - 1 : -1]
        read = self._model(input_ids=whole, use_cache=True)
        cache = read.past_key_values
        cache.batch_repeat_interleave(n)
        first = read.logits[:, -1:].expand(n, -1, -1)
        if longest == 1:
            return first
        rest = self._model(input_ids=answers[:, :-1], past_key_values=cache, use_cache=True).logits
        return torch.cat([first, rest], dim=1)


def _n_virtual_tokens(model: Any) -> int:
    config = getattr(model, "active_peft_config", None)
    return int(getattr(config, "num_virtual_tokens", 0) or 0)
