"""A run of the trainer on the demo base, in this process or as `python runs.py WORK KILL_AT` in one that is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.training.history import Asked, Step
from adapters.training.method import Method
from adapters.training.train import Order, Trained, train

BASE = Path(__file__).parents[3] / "deploy" / "demo" / "base"
QUESTIONS = [
    ("Qual a capital da Bahia?", "Salvador"),
    ("Onde fica a recepção?", "No térreo."),
    ("A clínica abre no sábado?", "Não."),
    ("Qual o ramal da pediatria?", "O ramal é 214."),
    ("Quem atende cardiologia?", "A Dra. Luísa."),
    ("Preciso de jejum?", "Sim, de oito horas."),
]


def chats(path: Path, questions: list[tuple[str, str]] = QUESTIONS) -> Path:
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in questions]
    path.write_text("".join(json.dumps({"messages": one}, ensure_ascii=False) + "\n" for one in turns))
    return path


def order(training: Path, *, kind: str = "supervised", **given: Any) -> Order:
    fields = {name: given.pop(name) for name in ("validation", "parent", "context_tokens") if name in given}
    hyperparameters = {"n_epochs": 2, "batch_size": 2} | given
    method = Method.model_validate({"type": kind, kind: {"hyperparameters": hyperparameters}})
    return Order(base=BASE, method=method, training=training, seed=7, threads=1, **({"context_tokens": 512} | fields))


def run(work: Path, ordered: Order, tell: Callable[[Step], Asked] = lambda _: "go") -> Trained:
    return train(ordered, work, tell)


def main(work: Path, kill_at: int) -> None:
    """Train with dropout, so that the state of the random numbers counts, and die at a step, before it is kept."""

    def tell(step: Step) -> Asked:
        if step.number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return "go"

    run(work, disturbed(work), tell)


def disturbed(work: Path) -> Order:
    return order(work.parent / "training.jsonl", lora={"r": 4, "dropout": 0.2})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
