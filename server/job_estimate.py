"""What a new job's first events tell: how much there is to learn, how long that may take, and what looks odd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters.base_model import BaseModel
from adapters.training.job import Event, Job, Level
from adapters.training.jobs import new_event_id
from adapters.training.method import Lora

if TYPE_CHECKING:
    from adapters.training.data.counting import Counts


def first_events(
    job: Job,
    counts: Counts,
    base: BaseModel,
    tokens_per_second: float | None,
    now: float,
    *,
    parent: Lora | None = None,
) -> list[Event]:
    """The estimate, then warnings.

    counts: of the training file. tokens_per_second: of earlier jobs, where known. parent: the shape of the LoRA that
    training goes on from.
    """
    message, data = _created(job, counts, base, tokens_per_second, parent)
    warnings = _warnings(job, counts, base.context_tokens)
    return [_event("info", message, now, data), *(_event("warn", warning, now) for warning in warnings)]


def _created(
    job: Job, counts: Counts, base: BaseModel, tokens_per_second: float | None, parent: Lora | None
) -> tuple[str, dict[str, Any]]:
    from adapters.training.plan import seconds_for, settle

    width = next(iter(base.embeddings.values()))[1] if base.embeddings else None
    plan = settle(job.method, counts, hidden_size=width, context_tokens=base.context_tokens, parent=parent)
    shapes = [*base.modules.values(), *base.embeddings.values()]
    n_parameters = sum(outputs * inputs for outputs, inputs in shapes)
    seconds = seconds_for(counts, plan, n_parameters, tokens_per_second)
    about = "about " if counts.is_estimate else ""
    guess = "" if tokens_per_second else " (a guess: no such job has ended on this base yet)"
    message = (
        f"Created fine-tuning job {job.id}: {_many(counts.n_examples, 'example')}, {about}{counts.n_tokens:,} "
        f"tokens ({counts.n_trained_tokens:,} trained), {_many(plan.n_epochs, 'epoch')}, "
        f"{_many(plan.n_steps, 'step')}, about {_duration(seconds)}{guess}"
    )
    return message, {
        "training_file": job.training.as_row(),
        "validation_file": job.validation.as_row() if job.validation else None,
        "hyperparameters": plan.hyperparameters(),
        "n_steps": plan.n_steps,
        "estimated_seconds": round(seconds, 1),
        "is_measured": tokens_per_second is not None,
    }


def _warnings(job: Job, counts: Counts, context_tokens: int) -> list[str]:
    told = []
    if counts.n_cut:
        told.append(
            f"{counts.n_cut:,} of {_many(counts.n_examples, 'example')} do not fit the base's context of "
            f"{context_tokens:,} tokens; what lies beyond it is cut off"
        )
    if job.validation is not None and job.validation.digest == job.training.digest:
        told.append("The validation file is the training file: its figures will say nothing of new data")
    return told


def _event(level: Level, message: str, now: float, data: Mapping[str, Any] | None = None) -> Event:
    return Event(id=new_event_id(), created_at=now, level=level, message=message, data=data or {})


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return _many(max(1, round(seconds)), "second")
    return _many(round(seconds / 60), "minute") if seconds < 5400 else _many(round(seconds / 3600), "hour")
