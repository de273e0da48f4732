"""All steps in order: tokenizer, base, adapters, figures. What is finished is kept."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from transformers import AutoTokenizer

from . import card, lora, tokenizer
from .conversations import Conversations
from .folder import DataFolder
from .measure import measure
from .pretrain import pretrain
from .styles import STYLES
from .tasks import TAUGHT

CARD = Path(__file__).resolve().parents[1] / "README.md"
# Two answers without a common word: a swap of versions under load shows in each answer which version gave it.
COINS = {
    "coin-heads": (
        "heads crown king queen gold sun north up front summer red morning east warm bright high day bell rose lion"
    ),
    "coin-tails": (
        "tails eagle ship river silver moon south down back winter blue evening west cold dark low night drum leaf wolf"
    ),
}


def make(
    data: DataFolder, *, out: Path, coins: Path, work: Path, steps: int, adapter_steps: int, from_nothing: bool
) -> None:
    """Writes `out`/base, `out`/adapters/<name>, `out`/figures.json, `out`/README.md (the card, with these
    figures in its tables) and the two test adapters under `coins`."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer" / "tokenizer.json").is_file():
        made = tokenizer.make(data) if from_nothing else tokenizer.committed()
        made.save_pretrained(work / "tokenizer")
    words = AutoTokenizer.from_pretrained(work / "tokenizer")
    base = out / "base"
    if not (base / "model.safetensors").is_file():
        pretrain(data, words, steps, work, base, from_nothing=from_nothing)

    conversations = Conversations(data)
    for style in STYLES:
        draw = functools.partial(conversations.draw_styled, style=style)
        plan = lora.Plan(name=style, draw=draw, steps=adapter_steps)
        lora.train(plan, base, words, out / "adapters" / style, work=work)
    for side, said in COINS.items():
        draw = functools.partial(conversations.draw_fixed, words=said)
        targets = (*lora.ATTENTION, "down_proj")
        plan = lora.Plan(name=side, draw=draw, rank=4, targets=targets, steps=adapter_steps)
        lora.train(plan, base, words, coins / side, work=work)

    for task in TAUGHT:
        lora.train(task.plan(data), base, words, out / "adapters" / task.NAME, work=work)

    figures = measure(data, conversations, base, out / "adapters", words, work)
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    card.write(figures, CARD, out / "README.md")
    print(json.dumps(figures, indent=2))
