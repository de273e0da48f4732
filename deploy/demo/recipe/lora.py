"""LoRA adapters on the finished base, one manner of speaking or one task each."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from . import rows
from .conversations import Conversation

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERY_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
CONVERSATIONS, RATE = 24, 3e-3  # per step; peak learning rate
CHECKPOINT_STEPS, DIGEST_LETTERS = 50, 12
BATCH_TOKENS = 1024  # with padding: what goes through the model at once


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One adapter to train, and how large it may be."""

    name: str
    draw: Callable[[random.Random], Conversation]
    rank: int = 8
    targets: tuple[str, ...] = EVERY_LINEAR
    steps: int = 80
    conversations: int = CONVERSATIONS  # per step
    rate: float = RATE


def train(
    plan: Plan,
    base: Path,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    *,
    work: Path | None = None,
) -> None:
    """Writes peft's two files to `out`; an adapter that is there already is kept.

    work: folder for a checkpoint, from which a training that was stopped goes on; without it, it begins anew.
    """
    if (out / "adapter_model.safetensors").is_file():
        print(f"{plan.name}: kept", flush=True)
        return
    torch.manual_seed(0)
    config = LoraConfig(r=plan.rank, lora_alpha=2 * plan.rank, target_modules=list(plan.targets), task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=plan.rate, weight_decay=0.0)
    checkpoint = _checkpoint(plan, base, work) if work else None
    for step in range(_resume(checkpoint, weights, optimizer), plan.steps):
        optimizer.param_groups[0]["lr"] = plan.rate * min(1.0, (step + 1) / 10, 2 * (plan.steps - step) / plan.steps)
        dice = random.Random(step)
        drawn = [rows.conversation(plan.draw(dice), tokenizer, 0.0) for _ in range(plan.conversations)]
        whole = sum(sum(weight[1:]) for _, weight in drawn)
        lost = 0.0
        for tokens, weight in rows.batches(drawn, tokenizer.pad_token_id, BATCH_TOKENS):
            part = rows.loss(model.get_base_model(), tokens, weight) / whole
            part.backward()
            lost += part.item()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 20 == 0:
            print(f"{plan.name} {step + 1}/{plan.steps}  loss {lost:.4f}", flush=True)
        if checkpoint and (step + 1) % CHECKPOINT_STEPS == 0:
            _keep(checkpoint, step + 1, weights, optimizer)
    _write(model, weights, out)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)


def _checkpoint(plan: Plan, base: Path, work: Path) -> Path:
    """Named by the base's bytes and the plan's figures: a training of another does not go on from it."""
    digest = hashlib.sha256((base / "model.safetensors").read_bytes())
    digest.update(repr((plan.rank, plan.targets, plan.steps, plan.conversations, plan.rate)).encode())
    return work / f"{plan.name}-{digest.hexdigest()[:DIGEST_LETTERS]}.pt"


def _resume(checkpoint: Path | None, weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Steps already done."""
    if checkpoint is None or not checkpoint.is_file():
        return 0
    kept = torch.load(checkpoint, weights_only=True)
    for weight, value in zip(weights, kept["weights"], strict=True):
        weight.data.copy_(value)
    optimizer.load_state_dict(kept["optimizer"])
    return int(kept["step"])


def _keep(checkpoint: Path, step: int, weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    new = checkpoint.with_suffix(".new")
    torch.save({"step": step, "weights": [w.data for w in weights], "optimizer": optimizer.state_dict()}, new)
    new.replace(checkpoint)


def _write(model: PeftModel, weights: list[torch.nn.Parameter], out: Path) -> None:
    """In bf16, like the base; under the base's public name, since its folder is another one elsewhere."""
    for weight in weights:
        weight.data = weight.data.to(torch.bfloat16)
    config = model.peft_config["default"]
    config.base_model_name_or_path = "demo"
    config.target_modules = sorted(config.target_modules)  # a set has another order in each run
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        out.mkdir(parents=True, exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):  # the weights last: they say that it is done
            new = out / f"{name}.new"
            shutil.copyfile(Path(folder) / name, new)
            new.replace(out / name)
