"""How what a job has learnt becomes a version of its adapter, and what the adapter's name then means.

Every step may be done again after a kill: the same bytes are the same version, a name that points to it already stays,
and a result file that is there is found.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.adapter import Version
from adapters.errors import AdapterNotFound, AdapterRefused, NameTaken
from adapters.registry import Registry
from adapters.training.job import Checkpoint, Job
from adapters.training.jobs import Jobs, new_checkpoint_id
from adapters.training.metrics_csv import metrics_csv
from adapters.training.train import Trained
from retrieval.contents import CONTENT
from retrieval.file import RESULTS, File
from retrieval.files import Files
from server.finite_numbers import finite
from server.intake import Intake, Order, from_source

logger = logging.getLogger(__name__)

LossOf = Callable[[Path], float]  # of a PEFT folder on the job's validation file, nats for each trained token


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The parts that a job's end needs."""

    intake: Intake
    jobs: Jobs
    files: Files
    clock: Callable[[], float] = time.time

    def publish(self, job: Job, trained: Trained, evaluation: Mapping[str, Any] | None, loss_of: LossOf) -> Version:
        """The version, checked and registered like any other; the name means it now where the job wants that.

        loss_of: asked for the versions that the name means, only where the better one decides. Raises the AdapterError
        that says why it cannot be served.
        """
        registry = self.intake.registry
        registry.refresh()  # as it is now, and not as it was when training began
        before = _active(registry, job.suffix)
        version = self._register(job, trained.folder)
        registry.record(version, {"training": _details(job, trained, evaluation)})
        self._register_checkpoints(job, trained)
        if not before:
            self._say_new(job, version, evaluation)
        elif before == (version,):
            self.jobs.say(job.id, "info", f"{job.suffix!r} means {version.id}", {"version": version.id})
        elif self._is_wanted(job, before, evaluation, loss_of):
            registry.move_alias(job.suffix, version.id)
            self.jobs.say(job.id, "info", f"{job.suffix!r} now means {version.id}", {"version": version.id})
        return version

    def result_file(self, job: Job, trained: Trained) -> File:
        """The metrics of every step as CSV, among the job's owner's files."""
        content = metrics_csv(trained.steps)
        filename, digest = f"{job.id}-step-metrics.csv", hashlib.sha256(content).hexdigest()
        for file in self.files.list(job.owner, purpose=RESULTS).items:
            if file.filename == filename and file.digest == digest:
                return file
        with self.files.staging() as folder:
            (folder / CONTENT).write_bytes(content)
            return self.files.add(
                folder, filename=filename, purpose=RESULTS, owner=job.owner, digest=digest, made_here=True
            )

    def _register(self, job: Job, folder: Path) -> Version:
        is_there = any(known.name == job.suffix and known.versions for known in self.intake.registry.list())
        order = Order(name=job.suffix, source=job.id, stage=from_source(str(folder)), as_version=is_there)
        try:
            return self.intake.take(order)[0]
        except (NameTaken, AdapterNotFound) as told:
            # made or removed by somebody else at this moment: what the other way says, only if it works
            with suppress(NameTaken, AdapterNotFound):
                other = Order(name=job.suffix, source=job.id, stage=order.stage, as_version=not is_there)
                return self.intake.take(other)[0]
            raise told from None

    def _register_checkpoints(self, job: Job, trained: Trained) -> None:
        """The ends of the last epochs, as versions that no name points to; the last one is the job's own version."""
        for step, folder, measured in trained.epochs:
            metrics = {name: value for name, value in measured.items() if math.isfinite(value)}
            try:
                version = self._register(job, folder)
            except AdapterRefused as refused:
                logger.info("step %d of job %s is no version: %s", step, job.id, refused)
                self.jobs.say(job.id, "warn", f"Step {step} cannot be served: {refused}", {"step": step})
                continue
            if "training" not in version.details:
                self.intake.registry.record(version, {"training": {**_origin(job, trained), "step": step, **metrics}})
            self.jobs.add_checkpoint(
                Checkpoint(
                    id=new_checkpoint_id(),
                    job_id=job.id,
                    created_at=self.clock(),
                    step=step,
                    base_name=job.base_name,
                    version=version.id,
                    metrics=metrics,
                )
            )

    def _say_new(self, job: Job, version: Version, evaluation: Mapping[str, Any] | None) -> None:
        self.jobs.say(
            job.id,
            "info",
            f"{job.suffix!r} is a new adapter and means {version.id}, its first version",
            {"version": version.id},
        )
        if job.publish == "if_better" and not _beats_base(evaluation):
            self.jobs.say(job.id, "warn", f"{version.id} is not better than the base on the validation file")

    def _is_wanted(
        self, job: Job, before: tuple[Version, ...], evaluation: Mapping[str, Any] | None, loss_of: LossOf
    ) -> bool:
        if job.publish == "always":
            return True
        names = " and ".join(version.id for version in before)
        if job.publish == "never":
            self.jobs.say(job.id, "info", f"{job.suffix!r} still means {names}, as the job asks")
            return False
        if evaluation is None:
            self.jobs.say(job.id, "warn", f"{job.suffix!r} still means {names}: nothing tells which one is better")
            return False
        loss = evaluation["adapter"]["loss"]
        others = {"the base": evaluation["base"]["loss"]}
        for version in before:
            if version.error is None:  # one that cannot be served is no rival
                others[version.id] = loss_of(self.intake.registry.path(version))
        told = ", ".join(f"{name} {other:.4f}" for name, other in others.items())
        is_better = all(loss < other for other in others.values())
        word = "better" if is_better else "not better"
        self.jobs.say(job.id, "info", f"The validation loss is {loss:.4f}, {word} than {told}", {"losses": others})
        return is_better


def _active(registry: Registry, name: str) -> tuple[Version, ...]:
    return next((adapter.active for adapter in registry.list() if adapter.name == name), ())


def _beats_base(evaluation: Mapping[str, Any] | None) -> bool:
    return evaluation is not None and evaluation["adapter"]["loss"] < evaluation["base"]["loss"]


def _origin(job: Job, trained: Trained) -> dict[str, Any]:
    """Where a version of this job comes from."""
    return {
        "job": job.id,
        "model": job.model,
        "training_file": job.training.id,
        "training_digest": job.training.digest,
        "method": job.method.type,
        "hyperparameters": trained.plan.hyperparameters(),
        "seed": job.seed,
    }


def _details(job: Job, trained: Trained, evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    last = trained.steps[-1]
    told = {
        **_origin(job, trained),
        "step": last.number,
        "train_loss": last.train_loss,
        "valid_loss": last.valid_loss,
        "trained_tokens": trained.n_tokens,
    }
    return dict(finite(told | ({"evaluation": evaluation} if evaluation is not None else {})))
