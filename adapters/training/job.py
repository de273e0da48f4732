"""A fine-tuning job, its events and its checkpoints: what the table's rows say, in OpenAI's words.

https://platform.openai.com/docs/api-reference/fine-tuning/object
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapters.training.method import Method, Publish

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
OVER: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
Level = Literal["info", "warn", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """A training or validation file as it was when the job was made; the job has its own copy of the bytes."""

    id: str
    digest: str
    n_examples: int
    n_tokens: int  # rendered by the base's template; counted, or estimated from a sample where `is_estimate`
    n_trained_tokens: int  # of those that the loss is taken over
    is_estimate: bool = False

    def as_row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. Times are Unix seconds."""

    id: str  # ftjob-…
    owner: str
    status: Status
    created_at: float
    started_at: float | None = None  # of the first step
    finished_at: float | None = None
    estimated_finish: float | None = None
    base_name: str
    base_fingerprint: str
    model: str  # as it was asked for: the base's name, or the adapter version that training goes on from
    parent: str | None = None  # that version's id, where it is one
    suffix: str  # the adapter's name
    method: Method
    seed: int
    publish: Publish = "always"
    metadata: Mapping[str, str] = field(default_factory=dict)
    training: JobFile
    validation: JobFile | None = None
    step: int = 0
    n_steps: int | None = None
    trained_tokens: int | None = None
    version: str | None = None  # "<suffix>@<12 hex>" when it was registered
    result_file: str | None = None
    error: Mapping[str, Any] | None = None  # {code, message, param}
    facts: Mapping[str, Any] = field(default_factory=dict)  # settled hyperparameters, evaluation, peak memory, …
    wanted: Literal["pause", "cancel"] | None = None  # by a client; its process has not stopped yet
    lease_holder: str | None = None
    starts: int = 0  # of its process since the last step that was kept

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    def as_object(self) -> dict[str, Any]:
        """OpenAI's fine-tuning job object; `publish`, `suffix`, `step`, `n_steps`, `wanted`, `evaluation` are ours."""
        method = self.method.as_object()
        settled = self.facts.get("hyperparameters", {})
        method[self.method.type]["hyperparameters"].update(settled)
        told = method[self.method.type]["hyperparameters"]
        return {
            "id": self.id,
            "object": "fine_tuning.job",
            "created_at": int(self.created_at),
            "error": self.error if self.error is not None else None,
            "fine_tuned_model": permanent_name(self.base_name, self.version) if self.version else None,
            "finished_at": None if self.finished_at is None else int(self.finished_at),
            "hyperparameters": {key: told[key] for key in ("n_epochs", "batch_size", "learning_rate_multiplier")},
            "model": self.model,
            "organization_id": "manyhats",
            "result_files": [self.result_file] if self.result_file else [],
            "seed": self.seed,
            "status": self.status,
            "trained_tokens": self.trained_tokens if self.is_over else None,
            "training_file": self.training.id,
            "validation_file": self.validation.id if self.validation else None,
            "estimated_finish": None if self.estimated_finish is None else int(self.estimated_finish),
            "integrations": [],
            "metadata": dict(self.metadata),
            "method": method,
            "suffix": self.suffix,
            "publish": self.publish,
            "step": self.step,
            "n_steps": self.n_steps,
            "wanted": self.wanted,
            "evaluation": self.facts.get("evaluation"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """https://platform.openai.com/docs/api-reference/fine-tuning/event-object"""

    id: str  # ftevent-…
    created_at: float
    level: Level
    message: str
    type: Literal["message", "metrics"] = "message"
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        return {
            "object": "fine_tuning.job.event",
            "id": self.id,
            "created_at": int(self.created_at),
            "level": self.level,
            "message": self.message,
            "type": self.type,
            "data": dict(self.data),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The adapter at the end of an epoch. https://platform.openai.com/docs/api-reference/fine-tuning/checkpoint-object"""

    id: str  # ftckpt_…
    job_id: str
    created_at: float
    step: int
    base_name: str
    version: str  # "<suffix>@<12 hex>": served like any other
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_object(self) -> dict[str, Any]:
        return {
            "object": "fine_tuning.job.checkpoint",
            "id": self.id,
            "created_at": int(self.created_at),
            "fine_tuned_model_checkpoint": permanent_name(self.base_name, self.version),
            "fine_tuning_job_id": self.job_id,
            "metrics": {"step": self.step, **self.metrics},
            "step_number": self.step,
        }


def permanent_name(base_name: str, version_id: str) -> str:
    """`ft:demo::clinic:3fa91c0b77d2` for `clinic@3fa91c0b77d2`: a name that can never mean another version."""
    name, _, digest = version_id.partition("@")
    return f"ft:{base_name}::{name}:{digest}"
