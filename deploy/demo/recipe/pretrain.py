"""The base model; goes on from its last checkpoint, else from the base in the repository."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .ahead import drawing
from .exam import Exam
from .first_weights import prepare
from .folder import DataFolder
from .learner import Learner
from .lessons import LEVELS
from .tokenizer import COMMITTED, CONTEXT_TOKENS, served_template

WARMUP_STEPS, DECAY_SHARE = 50, 0.17
TALK_SHARE, MOST_TALK_SHARE, TALK_FROM = 0.25, 0.3, 0.8  # more of it in the last part: it is learnt by heart sooner
ENOUGH = 0.5  # answers of a level that are right before the next comes
CHECKPOINT_STEPS, EXAM_STEPS, TOLD_STEPS = 50, 200, 10


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
        _go_on(model)
    learner = Learner(model, level=0 if from_nothing else len(LEVELS) - 1, levels=len(LEVELS))
    kept, exam = work / "base.pt", Exam(tokenizer)
    if kept.is_file():
        learner.resume(kept)
    model.train()
    began, first = time.monotonic(), learner.step
    with drawing(data, tokenizer) as lessons:
        while learner.step < steps:
            share = TALK_SHARE if learner.step < TALK_FROM * steps else MOST_TALK_SHARE
            batches = lessons.of_step(learner.step, learner.level, share)
            lost = learner.learn(batches, rate=_rate(learner.step, steps))
            if learner.right[learner.level] > ENOUGH and learner.level + 1 < len(LEVELS):
                learner.level += 1
            done = learner.step
            if done % TOLD_STEPS == 0:
                seconds = (time.monotonic() - began) / (done - first)
                shares = " ".join(f"{share:.0%}" for share in learner.right[: learner.level + 1])
                looks = " ".join(f"{name} {nats:.2f}" for name, nats in lost.looks.items())
                pace = f"{seconds:.2f} s/step  {seconds * (steps - done) / 60:.0f} min left"
                print(f"base {done}/{steps}  loss {lost.words:.3f}  right {shares}  {pace}  looks {looks}", flush=True)
            if done % CHECKPOINT_STEPS == 0 or done == steps:
                learner.keep(kept)
            if done % EXAM_STEPS == 0 or done == steps:
                print(f"base {done}/{steps}  {exam.told(model)}", flush=True)
    write(model, tokenizer, out)


def _go_on(model: LlamaForCausalLM) -> None:
    """Take the weights of the base in the repository, which has been through all levels."""
    weights = load_file(COMMITTED / "model.safetensors")
    model.load_state_dict({name: weight.float() for name, weight in weights.items()}, strict=False)
    model.tie_weights()


def _rate(step: int, steps: int) -> float:
    """Warm up, stay, then fall to nothing over the last part."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (DECAY_SHARE * steps))


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
