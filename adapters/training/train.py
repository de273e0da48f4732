"""One run: from a file of examples to an adapter on disk, going on where a killed process left it.

The heavy libraries are imported inside, since they take ten seconds and half a gigabyte: only the training child pays.
"""

from __future__ import annotations

import importlib.metadata
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterRefused
from adapters.safetensors_file import WEIGHTS_FILE, SafetensorsFile
from adapters.training.checkpoints import Checkpoints, copy_adapter
from adapters.training.history import Asked, History, Interrupted, Step
from adapters.training.method import Method
from adapters.training.parent import shape_of
from adapters.training.plan import Plan, settle, text_row_tokens
from adapters.training.quiet import quiet

if TYPE_CHECKING:
    from adapters.training.rows import Rows

__all__ = ["Asked", "Interrupted", "Order", "Step", "Trained", "train"]

EVALUATIONS = 20  # of the validation file in one run, besides those at the ends of epochs
VALIDATION_EXAMPLES = 200
EVALUATED_AT_ONCE = 64
CHECKPOINTED_PARAMETERS = 200_000_000  # larger bases compute activations twice rather than keep them
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to train, on what."""

    base: Path
    context_tokens: int
    method: Method
    training: Path
    validation: Path | None = None
    parent: Path | None = None  # a PEFT folder to go on from
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished run."""

    folder: Path  # a PEFT adapter
    plan: Plan
    steps: list[Step]  # all, also those of earlier processes
    epochs: list[tuple[int, Path, dict[str, float]]]  # (step, PEFT folder, metrics), the last few
    n_tokens: int
    facts: dict[str, Any]  # peak_memory_bytes, seconds, device, threads, versions


def train(order: Order, work: Path, tell: Callable[[Step], Asked]) -> Trained:
    """Train as ordered; everything is written under `work`, and a later call with the same goes on from there.

    tell: asked after every optimizer step. Raises Interrupted when it answers anything
    but "go", DataInvalid and JobInvalid for what cannot be trained.
    """
    work.mkdir(parents=True, exist_ok=True)
    with quiet(work):
        return _train(order, work, tell)


def _train(order: Order, work: Path, tell: Callable[[Step], Asked]) -> Trained:
    import torch

    from adapters.training import base_loading, trainers
    from adapters.training.packing import keeps_apart
    from adapters.training.rows import packed, rows_of

    if order.threads is not None:
        torch.set_num_threads(order.threads)
    kind = order.method.type
    width = base_loading.width(order.base)
    rows = rows_of(order.training, kind, order.base, context_tokens=order.context_tokens)
    model = base_loading.load(order.base, device=order.device, quantization=order.method.hyperparameters.quantization)
    shares_rows = kind in ("supervised", "continued_pretraining") and keeps_apart(model, _some(rows))
    if kind == "continued_pretraining" and shares_rows:
        rows = packed(rows, text_row_tokens(order.context_tokens))
    plan = settle(
        order.method,
        rows.counts,
        n_rows=len(rows),
        hidden_size=width,
        parent=shape_of(order.parent) if order.parent else None,
    )
    validation = _validation(order, rows_of)
    tuned = base_loading.adapt(model, plan, parent=order.parent, seed=order.seed)
    trainer = _trainer(order, plan, work, rows, validation, tuned, shares_rows=shares_rows, width=width)
    checkpoints = Checkpoints(work / "checkpoints")
    history, start = _state(work, checkpoints)
    steps_per_epoch = plan.n_steps // plan.n_epochs
    epochs = work / "epochs"

    def epoch_ended(step: int, checkpoint: Path) -> None:
        copy_adapter(checkpoint, epochs / str(step))
        for old in _epoch_steps(epochs)[: -trainers.KEPT_EPOCHS]:
            shutil.rmtree(epochs / str(old))

    way = trainers.Way(
        history=history,
        checkpoints=checkpoints,
        tell=tell,
        n_steps=plan.n_steps,
        steps_per_epoch=steps_per_epoch,
        evaluate_every=math.ceil(plan.n_steps / EVALUATIONS),
        device=order.device,
        epoch_ended=epoch_ended,
    )
    trainer.follow(way)
    if start is not None and way.is_epoch_end(start[0]) and not (epochs / str(start[0])).is_dir():
        epoch_ended(*start)  # the kill came between the two
    for later in [step for step in _epoch_steps(epochs) if start is None or step > start[0]]:
        shutil.rmtree(epochs / str(later))
    if start is None or start[0] < plan.n_steps:
        trainer.train(resume_from_checkpoint=str(start[1]) if start else None)
    return Trained(
        folder=copy_adapter(checkpoints.path(plan.n_steps), work / "adapter"),
        plan=plan,
        steps=history.steps,
        epochs=[(step, epochs / str(step), _metrics(history.steps[step - 1])) for step in _epoch_steps(epochs)],
        n_tokens=history.n_tokens,
        facts=_facts(order, history, rows, shares_rows=shares_rows),
    )


def _state(work: Path, checkpoints: Checkpoints) -> tuple[History, tuple[int, Path] | None]:
    """Where to go on: the newest checkpoint that can be read and whose steps are all known, else the beginning."""
    while (last := checkpoints.last()) is not None:
        step, path = last
        try:
            _check_readable(path)
            return History(work, until=step), last
        except (OSError, ValueError, AdapterRefused):
            checkpoints.drop(path)
    return History(work, until=0), None


def _check_readable(checkpoint: Path) -> None:
    SafetensorsFile.open(checkpoint / WEIGHTS_FILE)
    for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        if not (checkpoint / name).stat().st_size:
            raise ValueError(f"{checkpoint / name} is empty")


def _validation(order: Order, rows_of: Callable[..., Rows]) -> Rows | None:
    if order.validation is None:
        return None
    return rows_of(
        order.validation,
        order.method.type,
        order.base,
        context_tokens=order.context_tokens,
        most=VALIDATION_EXAMPLES,
    )


def _trainer(
    order: Order,
    plan: Plan,
    work: Path,
    rows: Rows,
    validation: Rows | None,
    tuned: Any,
    *,
    shares_rows: bool,
    width: int,
) -> Any:
    from transformers import AutoTokenizer
    from trl import DPOConfig, SFTConfig

    from adapters.training import trainers
    from adapters.training.packing import micro_batch

    at_once = micro_batch(plan.batch_size, rows.lengths, width)
    usual: dict[str, Any] = {
        "output_dir": str(work / "trainer"),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": micro_batch(EVALUATED_AT_ONCE, rows.lengths, width),
        "gradient_accumulation_steps": plan.batch_size // at_once,
        "num_train_epochs": plan.n_epochs,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": min(100, plan.n_steps // 20),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": order.seed,
        "data_seed": order.seed,
        "max_length": None,
        "bf16": order.device.startswith("cuda"),
        "use_cpu": not order.device.startswith("cuda"),
        "gradient_checkpointing": tuned.num_parameters() > CHECKPOINTED_PARAMETERS,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "prediction_loss_only": True,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "push_to_hub": False,
    }
    tokenizer = AutoTokenizer.from_pretrained(order.base, local_files_only=True)
    given: dict[str, Any] = {
        "model": tuned,
        "train_dataset": rows.data,
        "eval_dataset": validation.data if validation else None,
        "processing_class": tokenizer,
    }
    before = [parameter.detach().clone() for parameter in tuned.parameters() if parameter.requires_grad]
    if plan.kind == "dpo":
        trainer: Any = trainers.PreferenceTrainer(args=DPOConfig(beta=plan.beta, **usual), **given)
    else:
        prepared = {"skip_prepare_dataset": True}
        args = SFTConfig(padding_free=shares_rows, dataset_kwargs=prepared, **usual)
        trainer = trainers.SupervisedTrainer(args=args, **given)
    trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    for parameter, value in zip(trained, before, strict=True):
        # trl casts them to bfloat16 over an nf4 base, where AdamW's small steps vanish
        parameter.data = value.float()
    return trainer


def _some(rows: Rows) -> list[list[int]]:
    return [rows.data[0]["input_ids"], rows.data[len(rows.data) - 1]["input_ids"]]


def _epoch_steps(epochs: Path) -> list[int]:
    return sorted(int(path.name) for path in epochs.glob("[0-9]*"))


def _metrics(step: Step) -> dict[str, float]:
    told = {
        "train_loss": step.train_loss,
        "train_mean_token_accuracy": step.train_mean_token_accuracy,
        "full_valid_loss": step.valid_loss,
        "full_valid_mean_token_accuracy": step.valid_mean_token_accuracy,
    }
    return {name: value for name, value in told.items() if value is not None}


def _facts(order: Order, history: History, rows: Rows, *, shares_rows: bool) -> dict[str, Any]:
    import torch

    return {
        "seconds": history.spent.seconds,
        "peak_memory_bytes": history.spent.peak_memory_bytes,
        "device": order.device,
        "threads": torch.get_num_threads(),
        "n_rows": len(rows),
        "packed": shares_rows,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
