"""The base while it learns: its weights, its optimizers and what a step does to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from .muon import Muon
from .packing import Batch
from .pointing import WEIGHT, Pointing, Read, reader

MATRIX_RATE, OTHER_RATE = 0.012, 3e-3
MEMORY = 0.95  # of the running share of right answers
INITIAL = "initial_lr"


@dataclass(frozen=True)
class Lost:
    """Nats per weight: of words, and of each look."""

    words: float
    looks: dict[str, float]


class Learner:
    """`right` follows, for each level of lessons, the share of answers whose every token was the likeliest."""

    def __init__(self, model: LlamaForCausalLM, *, level: int, levels: int) -> None:
        self.model, self.step, self.level = model, 0, level
        self.right = [0.0] * levels
        self._read, self._pointing = reader(model), Pointing(model)
        matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
        chosen = {id(p) for p in matrices}
        others = [p for p in (*model.parameters(), *self._pointing.parameters()) if id(p) not in chosen]
        self._optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=MATRIX_RATE),
            torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group[INITIAL] = group["lr"]

    def learn(self, batches: list[Batch], *, rate: float) -> Lost:
        """One step; `rate`: of the full rates."""
        weight = sum(float(one.weights.sum()) for one in batches)
        words, looks = 0.0, dict[str, float]()
        for one in batches:
            read = self._read(one)
            nats, missed = self._words(one, read), self._pointing.losses(read, one)
            ((nats + WEIGHT * sum(look.nats for look in missed.values())) / weight).backward()
            words += nats.item() / weight
            for name, look in missed.items():
                looks[name] = looks.get(name, 0.0) + look.nats.item() / max(look.weight, 1.0) / len(batches)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group[INITIAL]
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return Lost(words, looks)

    def _words(self, one: Batch, read: Read) -> torch.Tensor:
        heavy = one.weights > 0
        logits = self.model.lm_head(read.out[heavy])
        each = torch.nn.functional.cross_entropy(logits, one.targets[heavy], reduction="none")
        wrong = torch.zeros(len(one.levels) + 1)
        wrong.index_put_((one.answers[heavy],), (logits.argmax(-1) != one.targets[heavy]).float(), accumulate=True)
        for level, misses in zip(one.levels, wrong[1:].tolist(), strict=True):
            if level >= 0:
                self.right[level] = MEMORY * self.right[level] + (1 - MEMORY) * (misses == 0)
        return (each * one.weights[heavy]).sum()

    def keep(self, path: Path) -> None:
        """Write all of it, so that a training can go on from there."""
        new = path.with_suffix(".new")
        told = {"step": self.step, "level": self.level, "right": self.right}
        parts = {"model": self.model.state_dict(), "pointing": self._pointing.state_dict()}
        torch.save({**told, **parts, "optimizers": [o.state_dict() for o in self._optimizers]}, new)
        new.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from there, at this run's rates, whatever the last one had."""
        kept = torch.load(path, weights_only=True)
        self.step, self.level, self.right = kept["step"], kept["level"], kept["right"]
        self.model.load_state_dict(kept["model"])
        self._pointing.load_state_dict(kept["pointing"])
        for optimizer, state in zip(self._optimizers, kept["optimizers"], strict=True):
            rates = [group[INITIAL] for group in optimizer.param_groups]
            optimizer.load_state_dict(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group[INITIAL] = rate
