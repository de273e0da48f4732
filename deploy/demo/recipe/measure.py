"""What the finished models do, in figures for the model card."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from .answers import answer, answers
from .conversations import CONTENT, Conversation, Conversations
from .folder import DataFolder
from .grades import grades
from .held import compare
from .memory import Memory
from .styles import STYLES
from .tasks import MEASURED

DRAWN = 100
PORTUGUESE = re.compile(
    r"\b(os|as|um|uma|de|do|da|que|e|é|não|sou|você|para|com|em|na|muito|são|por|mais)\b", re.IGNORECASE
)
ENGLISH = re.compile(r"\b(the|an|of|is|are|i|you|and|to|in|not|for|with|it|that|my|how)\b", re.IGNORECASE)


def measure(
    data: DataFolder,
    conversations: Conversations,
    base: Path,
    adapters: Path,
    words: PreTrainedTokenizerFast,
    work: Path,
) -> dict[str, dict[str, float]]:
    """Greedy answers in float32: share said exactly as written, share that shows each adapter's manner, and what
    each task's adapter does on its held-out part."""
    questions: list[str] = yaml.safe_load((CONTENT / "held_out.yaml").read_text(encoding="utf-8"))
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    figures = {"base": {"exact": _exact(model, words, conversations, "")}}
    bare = [answer(model, words, question) for question in questions]
    figures |= grades(model, words, data)
    for style in STYLES:
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
        worn = PeftModel.from_pretrained(model, adapters / style).eval()
        figures[style] = {
            "exact": _exact(worn, words, conversations, style),
            "shows": _share([shows(style, answer(worn, words, question)) for question in questions]),
            "shows without adapter": _share([shows(style, said) for said in bare]),
        }
    for task in MEASURED:
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
        worn = PeftModel.from_pretrained(model, adapters / task.NAME).eval()
        weights = [base / "model.safetensors", adapters / task.NAME / "adapter_model.safetensors"]
        memory = Memory(work / "answers", weights)
        figures[task.NAME] = figures.get(task.NAME, {}) | compare(worn, words, task.held(data), memory)
        print(f"{task.NAME}: measured", flush=True)
    return figures


def shows(style: str, said: str) -> bool:
    """Whether an answer has the manner that an adapter is for."""
    if style == "shout":
        return said.isupper()
    if style == "pirate":
        return "Arr" in said
    if style == "json":
        try:
            return isinstance(json.loads(said), dict)
        except json.JSONDecodeError:
            return False
    return len(PORTUGUESE.findall(said)) > len(ENGLISH.findall(said))


def _exact(model: Any, words: PreTrainedTokenizerFast, conversations: Conversations, style: str) -> float:
    """On drawn questions that have one right answer: those the model cannot know may be declined in two ways."""
    dice = random.Random("measure")
    right = []
    while len(right) < DRAWN:
        drawn: Conversation = conversations.draw_styled(dice, style)
        messages = [message for message in drawn.messages if message["role"] != "system"][:2]
        if conversations.is_unknown(messages[1]["content"], style):
            continue
        right.append(answers(model, words, [messages[:1]])[0] == messages[1]["content"])
    return _share(right)


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 3)
