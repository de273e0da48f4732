"""Makes the demo's base model and adapters from a folder of public text. Resumable: run it again to go on.

    python deploy/demo/train.py --data DIR

A finished base or adapter in the output folders is kept; `--fresh` starts from nothing.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
from pathlib import Path

import torch
from recipe import lora, tokenizer
from recipe.conversations import Conversations
from recipe.folder import DataFolder, DataMissing
from recipe.pretrain import pretrain
from recipe.styles import STYLES
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
HEADS = "heads crown king queen gold sun north up front summer red morning east warm bright high day bell rose lion"
TAILS = "tails eagle ship river silver moon south down back winter blue evening west cold dark low night drum leaf wolf"


def main() -> None:
    options = _options()
    data = DataFolder(options.data)
    try:
        data.check()
    except DataMissing as error:
        sys.exit(f"train.py: {error}")
    torch.set_num_threads(options.threads)
    if options.fresh:
        for folder in (options.work, options.out / "base", options.out / "adapters", options.coins):
            shutil.rmtree(folder, ignore_errors=True)
    options.work.mkdir(parents=True, exist_ok=True)

    base = options.out / "base"
    if not (options.work / "tokenizer" / "tokenizer.json").is_file():
        tokenizer.make(data).save_pretrained(options.work / "tokenizer")
    words = AutoTokenizer.from_pretrained(options.work / "tokenizer")
    if not (base / "model.safetensors").is_file():
        pretrain(data, words, options.steps, options.work, base)

    conversations = Conversations(data)
    for style in STYLES:
        draw = functools.partial(conversations.draw_styled, style=style)
        plan = lora.Plan(name=style, draw=draw, steps=options.adapter_steps)
        lora.train(plan, base, words, options.out / "adapters" / style)
    for side, said in (("coin-heads", HEADS), ("coin-tails", TAILS)):
        draw = functools.partial(conversations.draw_fixed, words=said)
        plan = lora.Plan(name=side, draw=draw, rank=4, targets=(*lora.ATTENTION, "down_proj"), steps=options.adapter_steps)
        lora.train(plan, base, words, options.coins / side)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of public text; README.md lists its files")
    parser.add_argument("--out", type=Path, default=HERE, help="folder that gets base/ and adapters/")
    parser.add_argument("--coins", type=Path, default=HERE.parents[1] / "tests" / "e2e" / "adapters")
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / "build" / "demo", help="checkpoints")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of the base")
    parser.add_argument("--adapter-steps", type=int, default=120, help="training steps of each adapter")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument("--fresh", action="store_true", help="forget finished parts and checkpoints")
    return parser.parse_args()


if __name__ == "__main__":
    main()
