"""The base model, trained from nothing; goes on from its last checkpoint."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from . import rows
from .exam import Exam
from .first_weights import prepare
from .folder import DataFolder
from .lessons import Lessons
from .tokenizer import CONTEXT_TOKENS, served_template

STEP_TOKENS, BATCH_TOKENS = 4096, 2048
WARMUP_STEPS, DECAY_SHARE = 50, 0.4
MATRIX_RATE, OTHER_RATE = 0.01, 3e-3
CHECKPOINT_STEPS, EXAM_STEPS = 50, 200


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


def pretrain(data: DataFolder, tokenizer: PreTrainedTokenizerFast, steps: int, work: Path, out: Path) -> None:
    """Writes the base to `out`: weights in bf16, configuration, tokenizer and chat template."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(shape(tokenizer))
    prepare(model, tokenizer)
    optimizers = _optimizers(model)
    done = _resume(work / "base.pt", model, optimizers)
    lessons = Lessons(data, tokenizer)
    exam = Exam(tokenizer)
    model.train()
    started, first = time.monotonic(), done
    for step in range(done, steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _rate(step, steps)
        lost = _step(model, optimizers, lessons.of_step(step, STEP_TOKENS), tokenizer.pad_token_id)
        if (step + 1) % 10 == 0:
            seconds = (time.monotonic() - started) / (step + 1 - first)
            left = seconds * (steps - step - 1) / 60
            print(f"base {step + 1}/{steps}  loss {lost:.3f}  {seconds:.2f} s/step  {left:.0f} min left", flush=True)
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == steps:
            _keep(work / "base.pt", step + 1, model, optimizers)
        if (step + 1) % EXAM_STEPS == 0 or step + 1 == steps:
            print(f"base {step + 1}/{steps}  {exam.told(model)}", flush=True)
    _write(model, tokenizer, out)


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.0),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _rate(step: int, steps: int) -> float:
    """Warm up, stay, then fall to nothing over the last part."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (DECAY_SHARE * steps))


def _step(model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], chosen: list[rows.Row], pad: int) -> float:
    weight = sum(sum(weights[1:]) for _, weights in chosen)
    lost = 0.0
    for tokens, weights in rows.batches(chosen, pad, BATCH_TOKENS):
        part = rows.loss(model, tokens, weights) / weight
        part.backward()
        lost += part.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return lost


def _resume(path: Path, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]) -> int:
    """Steps already done."""
    if not path.is_file():
        return 0
    kept = torch.load(path, weights_only=True)
    model.load_state_dict(kept["model"])
    for optimizer, state in zip(optimizers, kept["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    return int(kept["step"])


def _keep(path: Path, step: int, model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer]) -> None:
    new = path.with_suffix(".new")
    torch.save({"step": step, "model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}, new)
    new.replace(path)


def _write(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
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
