"""trl's trainers, told what to do after every optimizer step. Only the training child imports this: it loads trl."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from transformers import PrinterCallback
from trl import DPOTrainer, SFTTrainer

from adapters.training.checkpoints import Checkpoints
from adapters.training.history import Asked, History, Interrupted, Spent, Step
from adapters.training.memory import peak_memory_bytes

KEPT_EPOCHS = 3  # whose adapters stay, with what they are worth
KEEP_SECONDS = 30.0  # at most as much work is lost by a kill


@dataclass(slots=True, kw_only=True)
class Way:
    """What a run does between its steps."""

    history: History
    checkpoints: Checkpoints
    tell: Callable[[Step], Asked]
    n_steps: int
    steps_per_epoch: int
    evaluate_every: int
    device: str
    epoch_ended: Callable[[int, Path], None]  # (step, its checkpoint)
    clock: Callable[[], float] = time.monotonic
    kept_at: float = field(init=False)
    began_at: float = field(init=False)
    before: Spent = field(init=False)

    def __post_init__(self) -> None:
        self.kept_at = self.began_at = self.clock()
        self.before = self.history.spent

    def spent(self) -> Spent:
        return Spent(
            self.before.seconds + self.clock() - self.began_at,
            max(self.before.peak_memory_bytes, peak_memory_bytes(self.device)),
        )

    def is_epoch_end(self, number: int) -> bool:
        return number % self.steps_per_epoch == 0 or number == self.n_steps

    def evaluates(self, number: int) -> bool:
        is_shown = self.is_epoch_end(number) and number > self.n_steps - KEPT_EPOCHS * self.steps_per_epoch
        return is_shown or number % self.evaluate_every == 0

    def keeps(self, number: int) -> bool:
        return self.is_epoch_end(number) or self.clock() - self.kept_at >= KEEP_SECONDS


class _Told(transformers.Trainer):  # type: ignore[misc]  # transformers' types are not read
    """What both trainers have in common: they log, evaluate, keep and ask after every step, in that order."""

    way: Way
    n_tokens_before: int  # of this process, at the last step
    _aside: Path

    def follow(self, way: Way) -> None:
        self.way = way
        self.n_tokens_before = 0
        self.processing_class = None  # else every checkpoint has a copy of the tokenizer
        self.remove_callback(PrinterCallback)

    def _maybe_log_save_evaluate(self, *given: Any, **named: Any) -> None:
        number = self.state.global_step
        if number == len(self.way.history.steps):  # it is called once more when an epoch ends
            return
        self.state.log_history.clear()
        self.control.should_log = True
        self.control.should_evaluate = self.eval_dataset is not None and self.way.evaluates(number)
        self.control.should_save = False
        super()._maybe_log_save_evaluate(*given, **named)
        step = self._step(number)
        self.way.history.add(step, self.way.spent())
        if self.way.keeps(number):
            step = self._keep(number)
        asked = self.way.tell(step)
        if asked == "pause" and not step.is_kept:
            self._keep(number)
        if asked != "go":
            raise Interrupted(asked)

    def _step(self, number: int) -> Step:
        told: dict[str, Any] = {}
        for logged in self.state.log_history:
            told |= logged
        self.state.log_history.clear()  # each checkpoint would write all of it again
        seen: int = self._total_train_tokens
        n_new, self.n_tokens_before = seen - self.n_tokens_before, seen
        return Step(
            number=number,
            n_steps=self.way.n_steps,
            epoch=round(float(self.state.epoch), 4),
            train_loss=float(told["loss"]),
            train_mean_token_accuracy=told.get("mean_token_accuracy"),
            valid_loss=told.get("eval_loss"),
            valid_mean_token_accuracy=told.get("eval_mean_token_accuracy"),
            learning_rate=float(told["learning_rate"]),
            n_tokens=self.way.history.n_tokens + int(n_new),
            is_kept=False,
        )

    def _keep(self, number: int) -> Step:
        self.way.history.sync()  # a checkpoint never knows of steps that the history has not
        with self.way.checkpoints.writing(number) as folder:
            self._aside = folder
            transformers.Trainer._save_checkpoint(self, self.model, None)
            written = folder / f"checkpoint-{number}"
            for path in list(written.iterdir()):
                path.rename(folder / path.name)
            written.rmdir()
        self.way.kept_at = self.way.clock()
        if self.way.is_epoch_end(number):
            self.way.epoch_ended(number, self.way.checkpoints.path(number))
        return self.way.history.keep_last()

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside)

    def floating_point_ops(self, inputs: Any) -> int:
        """Nobody asks for them, and counting the base's parameters takes a small base as long as its optimizer."""
        return 0

    def _send_telemetry(self) -> None:
        """Nothing leaves this machine."""


class SupervisedTrainer(_Told, SFTTrainer):  # type: ignore[misc]  # trl has no types
    """Next tokens, loss where the labels say so."""


class PreferenceTrainer(_Told, DPOTrainer):  # type: ignore[misc]  # trl has no types
    """DPO over rows that are rendered already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset
