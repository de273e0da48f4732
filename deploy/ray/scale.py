"""How many replicas, on what, and when more: the file that `make serve-ray` reads (CONFIG=deploy/ray/serve.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Autoscaling(_Frozen):
    """When Ray starts and ends replicas."""

    min_replicas: int = Field(1, ge=1, description="Replicas that are always there.")
    max_replicas: int = Field(4, ge=1, description="Replicas that there are at most.")
    target_ongoing_requests: float = Field(16, gt=0, description="Requests per replica that Ray aims at.")
    upscale_delay_s: float = Field(10, ge=0, description="How long it must be too much before one more is started.")
    downscale_delay_s: float = Field(300, ge=0, description="How long it must be too little before one is ended.")

    @model_validator(mode="after")
    def _ordered(self) -> Autoscaling:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas={self.max_replicas} is below min_replicas={self.min_replicas}")
        return self


class Scale(_Frozen):
    """What the file says; everything else about the server is a MANYHATS_ setting."""

    replicas: int = Field(2, ge=1, description="Replicas, each with an engine of its own.")
    autoscaling: Autoscaling | None = Field(
        None, description="In place of `replicas`: let their number follow the load."
    )
    cpus_per_replica: float = Field(1.0, ge=0, description="Cores that Ray reserves for a replica.")
    gpus_per_replica: float = Field(0.0, ge=0, description="GPUs that Ray reserves for a replica; it sees no others.")
    bind_cores: list[str] = Field(
        default_factory=list,
        description="VLLM_CPU_OMP_THREADS_BIND by a machine's replicas, such as ['0', '1']; "
        "if empty, `cpus_per_replica` cores for each.",
    )
    spill_at: int = Field(32, ge=1, description="Requests on a replica from which on others may take its adapters.")
    max_ongoing_requests: int = Field(128, ge=1, description="Requests that a replica has at most; more wait.")
    max_queued_requests: int = Field(512, ge=-1, description="Requests that wait at most, per ingress; beyond it 429.")
    ingresses: int = Field(1, ge=1, description="Processes that read requests and hand them to replicas.")
    workers: bool = Field(True, description="Whether files are read and jobs are trained in this cluster.")
    surge: bool = Field(
        False,
        description="On a change of configuration, start a new replica before an old one ends; needs room for one.",
    )
    residency_seconds: float = Field(0.25, gt=0, description="How often a replica is asked which adapters it holds.")
    vllm_args: list[str] = Field(default_factory=list, description="Further vLLM flags, as after `manyhats serve --`.")
    settings: dict[str, str] = Field(
        default_factory=dict, description="MANYHATS_ settings that stand above the environment's."
    )

    @classmethod
    def read(cls, path: Path) -> Scale:
        """Raises OSError, yaml's YAMLError, or pydantic's ValidationError, which names the field."""
        told: Any = yaml.safe_load(path.read_text())
        return cls.model_validate({} if told is None else told)
