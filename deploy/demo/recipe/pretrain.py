"""The base model; goes on from its last checkpoint, else from where the repository's own training stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from . import started
from .exam import Exam
from .first_weights import prepare
from .folder import DataFolder
from .lessons import LEVELS, Lessons
from .muon import Muon
from .packing import Batch, batch
from .tokenizer import CONTEXT_TOKENS, served_template

ROWS, ROW_TOKENS, PASSES = 4, 512, 2  # of a step
WARMUP_STEPS, DECAY_SHARE = 50, 0.35
MATRIX_RATE, OTHER_RATE = 0.012, 3e-3
TALK_SHARE, MOST_TALK_SHARE, TALK_FROM = 0.1, 0.5, 0.6  # more of it in the last part: it is learnt by heart sooner
ENOUGH, MEMORY = 0.5, 0.95  # answers of a level that are right before the next comes; of their running share
CHECKPOINT_STEPS, EXAM_STEPS = 50, 200
Read = Callable[..., Any]


def shape(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """5.8 million parameters in Llama's architecture; head size 64, which vLLM's CPU attention takes."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT_TOKENS,
        # slow enough for a head to compare tokens a whole prompt apart: at 10,000 eight of its 32 pairs could
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def pretrain(
    data: DataFolder,
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
    work: Path,
    out: Path,
    *,
    from_nothing: bool = False,
) -> None:
    """Writes the base to `out`: weights in bf16, configuration, tokenizer and chat template."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(shape(tokenizer))
    if from_nothing:
        prepare(model, tokenizer)
    else:
        started.begin(model)
    optimizers = _optimizers(model)
    done, level = _resume(work / "base.pt", model, optimizers, level=0 if from_nothing else started.LEVEL)
    lessons, exam, right = Lessons(data, tokenizer), Exam(tokenizer), [0.0] * len(LEVELS)
    read: Read = torch.compile(model.model)
    model.train()
    began, first = time.monotonic(), done
    for step in range(done, steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _rate(step, steps)
        texts = lessons.of_step(step, level, TALK_SHARE if step < TALK_FROM * steps else MOST_TALK_SHARE)
        batches = [batch(texts, rows=ROWS, length=ROW_TOKENS) for _ in range(PASSES)]
        lost = _step(model, read, optimizers, batches, right)
        if right[level] > ENOUGH and level + 1 < len(LEVELS):
            level += 1
        if (step + 1) % 10 == 0:
            seconds = (time.monotonic() - began) / (step + 1 - first)
            left = seconds * (steps - step - 1) / 60
            shares = " ".join(f"{share:.0%}" for share in right[: level + 1])
            told = f"loss {lost:.3f}  right {shares}  {seconds:.2f} s/step  {left:.0f} min left"
            print(f"base {step + 1}/{steps}  {told}", flush=True)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == steps:
            _keep(work / "base.pt", step + 1, level, model, optimizers)
        if (step + 1) % EXAM_STEPS == 0 or step + 1 == steps:
            print(f"base {step + 1}/{steps}  {exam.told(model)}", flush=True)
    write(model, tokenizer, out)


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=MATRIX_RATE),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _rate(step: int, steps: int) -> float:
    """Warm up, stay, then fall to nothing over the last part."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (DECAY_SHARE * steps))


def _step(
    model: LlamaForCausalLM,
    read: Read,
    optimizers: list[torch.optim.Optimizer],
    batches: list[Batch],
    right: list[float],
) -> float:
    """Nats per weight; `right` follows the share of answers of each level whose every token was the likeliest."""
    weight = sum(float(one.weights.sum()) for one in batches)
    lost = 0.0
    for one in batches:
        heavy = one.weights > 0
        hidden = read(
            input_ids=one.tokens, attention_mask=one.mask, position_ids=one.places, use_cache=False
        ).last_hidden_state[heavy]
        logits = model.lm_head(hidden)
        each = torch.nn.functional.cross_entropy(logits, one.targets[heavy], reduction="none")
        part = (each * one.weights[heavy]).sum() / weight
        part.backward()
        lost += part.item()
        wrong = torch.zeros(len(one.levels) + 1)
        wrong.index_put_((one.answers[heavy],), (logits.argmax(-1) != one.targets[heavy]).float(), accumulate=True)
        for level, misses in zip(one.levels, wrong[1:].tolist(), strict=True):
            if level >= 0:
                right[level] = MEMORY * right[level] + (1 - MEMORY) * (misses == 0)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return lost


def _resume(
    path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], *, level: int
) -> tuple[int, int]:
    """Steps already done, and the level; `level` where there is no checkpoint."""
    if not path.is_file():
        return 0, level
    kept = torch.load(path, weights_only=True)
    model.load_state_dict(kept["model"])
    for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
        rates = [group["initial_lr"] for group in optimizer.param_groups]  # this run's, whatever the last one had
        optimizer.load_state_dict(state)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate
    return int(kept["step"]), int(kept["level"])


def _keep(path: Path, step: int, level: int, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]) -> None:
    new = path.with_suffix(".new")
    state = {"step": step, "level": level, "model": model.state_dict()}
    torch.save({**state, "optimizers": [o.state_dict() for o in optimizers]}, new)
    new.replace(path)


def write(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """The served files."""
    # At temperature 1 a model this small stumbles over capitals: one answer of `shout` in six was not all capitals.
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_p=0.9,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "chat_template.jinja").write_text(served_template(), encoding="utf-8")
