"""The steps of a training run, on disk: a later process goes on with those that its checkpoint knows."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

STEPS_FILE = "steps.jsonl"
Asked = Literal["go", "pause", "cancel"]  # what whoever is told of a step answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One optimizer step, after it was made."""

    number: int  # from 1
    n_steps: int
    epoch: float  # epochs done, 1.5 in the middle of the second
    train_loss: float  # nats per trained token; of preferences, DPO's loss
    train_mean_token_accuracy: float | None
    valid_loss: float | None  # where this step measured it
    valid_mean_token_accuracy: float | None
    learning_rate: float
    n_tokens: int  # trained on so far, prompts included
    is_kept: bool  # a checkpoint of exactly this step is on disk


class Interrupted(Exception):
    """Training stopped because it was told to; after `pause` the state is on disk."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self.asked = asked


@dataclass(frozen=True, slots=True)
class Spent:
    """What the run has cost so far, over all its processes."""

    seconds: float = 0.0
    peak_memory_bytes: int = 0


class History:
    """Appends to `work/steps.jsonl`; what stands there after the checkpoint's step is dropped when a run goes on."""

    def __init__(self, work: Path, *, until: int) -> None:
        """Read the steps up to `until`, the checkpoint's; a line that a kill cut in two ends the reading."""
        self._path = work / STEPS_FILE
        self.steps: list[Step] = []
        self.spent = Spent()
        for step, spent in _lines(self._path):
            if step.number == len(self.steps) + 1 <= until:
                self.steps.append(step)
                self.spent = spent
        if len(self.steps) != until:
            raise ValueError(f"{self._path} has {len(self.steps)} steps, the checkpoint {until}")
        aside = self._path.with_suffix(".new")
        aside.write_text("".join(_line(step, self.spent) for step in self.steps))
        aside.replace(self._path)

    @property
    def n_tokens(self) -> int:
        return self.steps[-1].n_tokens if self.steps else 0

    def add(self, step: Step, spent: Spent) -> None:
        self.steps.append(step)
        self.spent = spent
        with self._path.open("a") as file:
            file.write(_line(step, spent))

    def sync(self) -> None:
        """Make what was added durable."""
        with self._path.open("a") as file:
            os.fsync(file.fileno())

    def keep_last(self) -> Step:
        """Mark the last step as kept; in memory only, since the checkpoint itself says so on disk."""
        self.steps[-1] = replace(self.steps[-1], is_kept=True)
        return self.steps[-1]


def _line(step: Step, spent: Spent) -> str:
    return json.dumps({**asdict(step), **asdict(spent)}) + "\n"


def _lines(path: Path) -> list[tuple[Step, Spent]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            told = json.loads(line)
            spent = Spent(told.pop("seconds"), told.pop("peak_memory_bytes"))
            found.append((Step(**told), spent))
        except (ValueError, TypeError, KeyError):
            break
    return found
