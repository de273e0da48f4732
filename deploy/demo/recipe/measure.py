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

from .conversations import CONTENT, Conversation, Conversations
from .styles import STYLES

DRAWN = 100
PORTUGUESE = re.compile(
    r"\b(os|as|um|uma|de|do|da|que|e|é|não|sou|você|para|com|em|na|muito|são|por|mais)\b", re.IGNORECASE
)
ENGLISH = re.compile(r"\b(the|an|of|is|are|i|you|and|to|in|not|for|with|it|that|my|how)\b", re.IGNORECASE)


def measure(
    conversations: Conversations, base: Path, adapters: Path, words: PreTrainedTokenizerFast
) -> dict[str, dict[str, float]]:
    """Greedy answers in float32: share said exactly as written, and share that shows each adapter's manner."""
    questions: list[str] = yaml.safe_load((CONTENT / "held_out.yaml").read_text(encoding="utf-8"))
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    figures = {"base": {"exact": _exact(model, words, conversations, "")}}
    bare = [_answer(model, words, [_user(question)]) for question in questions]
    for style in STYLES:
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
        worn = PeftModel.from_pretrained(model, adapters / style).eval()
        figures[style] = {
            "exact": _exact(worn, words, conversations, style),
            "shows": _share([shows(style, _answer(worn, words, [_user(question)])) for question in questions]),
            "shows without adapter": _share([shows(style, answer) for answer in bare]),
        }
    return figures


def shows(style: str, answer: str) -> bool:
    """Whether an answer has the manner that an adapter is for."""
    if style == "shout":
        return answer.isupper()
    if style == "pirate":
        return "Arr" in answer
    if style == "json":
        try:
            return isinstance(json.loads(answer), dict)
        except json.JSONDecodeError:
            return False
    return len(PORTUGUESE.findall(answer)) > len(ENGLISH.findall(answer))


def _exact(model: Any, words: PreTrainedTokenizerFast, conversations: Conversations, style: str) -> float:
    """On drawn questions that have one right answer: those the model cannot know may be declined in two ways."""
    dice = random.Random("measure")
    right = []
    while len(right) < DRAWN:
        drawn: Conversation = conversations.draw_styled(dice, style)
        messages = [message for message in drawn.messages if message["role"] != "system"][:2]
        if conversations.is_unknown(messages[1]["content"], style):
            continue
        right.append(_answer(model, words, messages[:1]) == messages[1]["content"])
    return _share(right)


def _answer(model: Any, words: PreTrainedTokenizerFast, messages: list[dict[str, Any]]) -> str:
    asked: Any = words.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        said = model.generate(**asked, max_new_tokens=120, do_sample=False)
    return str(words.decode(said[0][asked["input_ids"].shape[1] :], skip_special_tokens=True))


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _share(hits: list[bool]) -> float:
    return round(sum(hits) / len(hits), 3)
