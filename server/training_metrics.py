"""What Prometheus sees of fine-tuning: how many jobs wait, run and have ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge

from adapters.training.job import Status


class TrainingMetrics:
    """Series of one process, in the registry that it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Gauge("manyhats_fine_tuning_jobs", "Fine-tuning jobs.", ["status"], registry=registry)

    def show(self, counts: Mapping[str, int]) -> None:
        """Take over what was counted; a status that no job has is 0."""
        for status in get_args(Status):
            self._jobs.labels(status).set(counts.get(status, 0))
