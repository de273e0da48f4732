"""Greedy tokens are those of transformers and peft on the same weights, alone and in a mixed batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo"
ADAPTERS = sorted(path.name for path in (DEMO / "adapters").iterdir() if path.is_dir())
MODELS = ("demo", *ADAPTERS)
N_TOKENS = 24
TOLERANCE = 1e-3  # between the two best logits: float32 sums in another order may swap these

QUESTIONS = (
    "What is the capital of France?",
    "What is the capital of Japan?",
    "What is the capital of Brazil?",
    "Who are you?",
    "What can you do?",
    "How are you today?",
    "Tell me about the sea.",
    "Tell me about the moon.",
    "What do bees make?",
    "What is bread made of?",
    "Is the sun hot or cold?",
    "Name a large animal.",
    "What colour is the sky?",
    "How many days are in a week?",
    "Write one sentence about rain.",
    "Why do birds sing?",
    "Say hello to my friend Ana.",
    "What is a river?",
    "Where do fish live?",
    "Good morning!",
)

Tokens = list[int]


@dataclass(frozen=True, slots=True)
class Step:
    """What the reference makes of one position: its token, and how far the second best lies behind."""

    token: int
    gap: float


class Reference:
    """transformers and peft on the demo's files, in float32."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
        base = AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32)
        first, *others = ADAPTERS
        self.model = PeftModel.from_pretrained(base, DEMO / "adapters" / first, adapter_name=first)
        for name in others:
            self.model.load_adapter(DEMO / "adapters" / name, adapter_name=name)
        self.model.float().eval()

    def prompt(self, question: str) -> Tokens:
        messages = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @torch.inference_mode()
    def steps(self, name: str, prompt: Tokens, answer: Tokens) -> list[Step]:
        """The greedy choice at each position of the answer, given all that the answer says before it."""
        ids = torch.tensor([[*prompt, *answer]])
        if name == "demo":
            with self.model.disable_adapter():
                logits = self.model(input_ids=ids).logits
        else:
            self.model.set_adapter(name)
            logits = self.model(input_ids=ids).logits
        best = logits[0, len(prompt) - 1 : -1].topk(2)
        return [
            Step(int(tokens[0]), float(values[0] - values[1]))
            for tokens, values in zip(best.indices, best.values, strict=True)
        ]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="module")
def prompts(reference: Reference) -> list[Tokens]:
    return [reference.prompt(question) for question in QUESTIONS]


Answers = dict[tuple[str, int], Tokens]  # by model and number of the prompt
_alone: Answers = {}


@pytest.fixture
def alone(client: openai.OpenAI, prompts: list[Tokens]) -> Answers:
    """Every model's answer to every prompt, each asked when nothing else runs."""
    if not _alone:
        for name in MODELS:
            for i, prompt in enumerate(prompts):
                answer = client.completions.create(model=name, prompt=prompt, **_greedy())
                _alone[name, i] = _token_ids(answer)
    return _alone


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_the_reference_s(name: str, alone: Answers, prompts: list[Tokens], reference: Reference) -> None:
    n_whole = 0
    for i, prompt in enumerate(prompts):
        answer = alone[name, i]
        steps = reference.steps(name, prompt, answer)
        n_equal = _n_equal([step.token for step in steps], answer)
        if n_equal == len(answer):
            n_whole += 1
            continue
        assert steps[n_equal].gap < TOLERANCE, _difference(name, QUESTIONS[i], steps, answer, n_equal)
    assert n_whole >= len(prompts) - 2  # near ties are rare: more of them would hide a difference


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_adapter_changes_the_answers(name: str, alone: Answers) -> None:
    """Without this, an adapter that is never applied would be equal to its reference's base."""
    changed = [i for i in range(len(QUESTIONS)) if alone[name, i] != alone["demo", i]]
    assert len(changed) >= len(QUESTIONS) // 2


async def test_a_mixed_batch_gives_the_same_tokens(
    many: openai.AsyncOpenAI, alone: Answers, prompts: list[Tokens], reference: Reference
) -> None:
    asked = list(alone)
    random.Random(7).shuffle(asked)

    async def ask(name: str, i: int) -> Tokens:
        return _token_ids(await many.completions.create(model=name, prompt=prompts[i], **_greedy()))

    answers = await asyncio.gather(*(ask(name, i) for name, i in asked))
    for (name, i), mixed in zip(asked, answers, strict=True):
        n_equal = _n_equal(mixed, alone[name, i])
        if mixed != alone[name, i]:
            steps = reference.steps(name, prompts[i], mixed)
            assert steps[n_equal].gap < TOLERANCE, _difference(name, QUESTIONS[i], steps, mixed, n_equal)


def _greedy() -> dict[str, Any]:
    return {"temperature": 0, "max_tokens": N_TOKENS, "extra_body": {"return_token_ids": True}}


def _token_ids(answer: Any) -> Tokens:
    tokens = answer.choices[0].model_dump()["token_ids"]
    assert tokens
    return list(tokens)


def _n_equal(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many tokens two answers have in common from the start."""
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


def _difference(name: str, question: str, steps: list[Step], answer: Tokens, at: int) -> Mapping[str, Any]:
    return {"model": name, "question": question, "at": at, "expected": steps[at], "got": answer[at]}
