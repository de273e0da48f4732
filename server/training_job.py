"""The process of one fine-tuning job: trains, evaluates, publishes, and says how it ended.

What computes runs in an idle thread; the database is written at normal priority. Killed at any moment, a later process
goes on from the last checkpoint, and nothing that was registered is registered twice.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from adapters.base_model import BaseModel
from adapters.errors import AdapterNotFound
from adapters.registry import Registry
from adapters.sources import Sources
from adapters.training import evaluation as evaluating
from adapters.training.errors import JobInvalid, JobState
from adapters.training.folders import TRAINING, VALIDATION, WORK, JobFolders
from adapters.training.job import Job
from adapters.training.jobs import Jobs
from adapters.training.quiet import quiet
from adapters.training.train import Asked, Interrupted, Order, Step, Trained, train
from retrieval.files import Files
from server.blobs import open_blobs
from server.finite_numbers import finite
from server.idle_thread import IdleThread
from server.intake import Intake
from server.logs import configure, quiet_children
from server.settings import Settings, load_settings
from server.storage import feed
from server.storage.assistants import Assistants
from server.storage.database import Database
from server.storage.errors import StorageError
from server.training_device import choose_device
from server.training_failure import BaseUnusable, failure, is_disk_full
from server.training_process import n_threads
from server.training_publication import Publication
from server.training_telling import Telling

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXIT_AGAIN = 75  # sysexits' EX_TEMPFAIL: the database did not answer, so that another process has to go on
PARENT = "parent"  # in a job's folder: the adapter that training goes on from

Train = Callable[[Order, Path, Callable[[Step], Asked]], Trained]
EvaluateBoth = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heavy:
    """What loads models; tests hand in others."""

    train: Train = train
    evaluate: Callable[..., evaluating.Evaluation] = evaluating.evaluate
    evaluate_both: EvaluateBoth = evaluating.evaluate_both
    quiet: Callable[[Path], Any] = quiet  # around what libraries would say, and write elsewhere


def main(job_id: str, holder: str, *, alone: bool = False) -> int:
    """Work on the job that the holder has claimed; 0 when the database says how it ended."""
    settings = load_settings()
    configure(settings)
    quiet_children(settings)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the worker's to hear
    device = choose_device(settings.training_device, alone=alone)
    with closing(Database(settings.sql_url)) as database:
        status = JobProcess(settings, database, holder, stop=stop, device=device).run(job_id)
    logging.shutdown()
    os._exit(status)  # threads of libraries are not waited for


class JobProcess:
    """One job, from the claim to its end."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        holder: str,
        *,
        stop: threading.Event,
        device: str = "cpu",
        heavy: Heavy | None = None,
    ) -> None:
        """stop: keep what is learnt and let the job wait, as soon as may be."""
        self._settings = settings
        self._database = database
        self._holder = holder
        self._stop = stop
        self._device = device
        self._heavy = heavy or Heavy()
        self._idle = IdleThread()
        self._jobs = Jobs(database, on_write=partial(feed.bump, topic="training"))
        self._folders = JobFolders(settings.training_dir)

    def run(self, job_id: str) -> int:
        """The exit status; what goes wrong with the job is told in the database."""
        try:
            self._jobs.renew(job_id, self._holder)
            self._work(self._jobs.get(job_id, None))
        except JobState as lost:
            logger.warning("%s", lost)
        except StorageError as error:
            logger.error("job %s: %s", job_id, error)
            return EXIT_AGAIN
        return 0

    def _work(self, job: Job) -> None:
        """Raises JobState when the job is another's, StorageError when the database does not answer."""
        try:
            self._train_and_publish(job)
        except Interrupted as interrupted:
            # `queued` is `paused` where a client wishes that; else the process was told to end
            self._jobs.put_down(job.id, self._holder, "cancelled" if interrupted.asked == "cancel" else "queued")
        except (JobState, StorageError):
            raise
        except Exception as error:
            if is_disk_full(error):
                self._wait_for_room(job, error)
                return
            logger.exception("job %s failed", job.id)
            told = failure(error)
            self._jobs.fail(job.id, self._holder, told.code, told.message, told.param)

    def _train_and_publish(self, job: Job) -> None:
        base, folder = self._base(job)
        work = self._folders.path(job.id) / WORK
        order = self._order(job, base, folder)
        telling = Telling(self._jobs, job, self._holder, self._stop)
        trained = self._idle.run(
            partial(self._heavy.train, order, work, lambda step: self._idle.ask(partial(telling.told, step)))
        )
        evaluation = self._evaluation(job, order, work, trained)
        self._hear(job)
        publication = self._publication(base)
        version = publication.publish(job, trained, evaluation, partial(self._loss, job, order, work))
        file = publication.result_file(job, trained)
        self._jobs.succeed(
            job.id, self._holder, version.id, file.id, trained.n_tokens, _facts(trained, evaluation, version.id)
        )

    def _base(self, job: Job) -> tuple[BaseModel, Path]:
        """The server's base and its folder. Raises BaseUnusable for another than the job was made for."""
        from server.boot import model_folder  # seconds of imports

        try:
            folder = model_folder(self._settings)
            base = BaseModel.read(folder, cache=self._settings.base_cache_dir)
        except (ValueError, OSError) as error:
            message = f"the base model {self._settings.model!r} cannot be read: {error}"
            raise BaseUnusable("base_missing", message) from error
        if base.fingerprint != job.base_fingerprint:
            raise BaseUnusable(
                "base_changed",
                f"the job was made for the base {job.base_name!r}, and the one that is served now has other layers; "
                "serve that base again, or make the job anew",
            )
        return replace(base, name=self._settings.base_name), folder

    def _order(self, job: Job, base: BaseModel, folder: Path) -> Order:
        data = self._folders.path(job.id)
        return Order(
            base=folder,
            context_tokens=base.context_tokens,
            method=job.method,
            training=data / TRAINING,
            validation=data / VALIDATION if job.validation else None,
            parent=self._parent(job, base),
            seed=job.seed,
            device=self._device,
            threads=n_threads(self._settings),
        )

    def _parent(self, job: Job, base: BaseModel) -> Path | None:
        """The job's own copy of the adapter to go on from: its version may be removed while the job waits or runs."""
        if job.parent is None:
            return None
        copy = self._folders.path(job.id) / PARENT
        if not copy.is_dir():
            registry = self._registry(base)
            try:
                found = registry.path(registry.resolve(job.parent))
            except AdapterNotFound as gone:
                raise JobInvalid(f"the adapter to go on from is gone: {gone}", param="model") from gone
            aside = copy.with_name(f".{PARENT}")
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(found, aside)
            aside.rename(copy)
        return copy

    def _evaluation(self, job: Job, order: Order, work: Path, trained: Trained) -> Mapping[str, Any] | None:
        """Of base and adapter on the validation file; None where there is none."""
        if order.validation is None:
            return None
        told = self._quietly(
            work,
            partial(
                self._heavy.evaluate_both,
                order.base,
                trained.folder,
                order.validation,
                job.method.type,
                context_tokens=order.context_tokens,
                device=order.device,
            ),
        )
        evaluation: dict[str, Any] = finite(told)
        losses = {name: told[name]["loss"] for name in ("base", "adapter")}
        message = f"Validation loss: {losses['base']:.4f} of the base, {losses['adapter']:.4f} of the adapter"
        self._jobs.say(job.id, "info", message, {"evaluation": evaluation})
        return evaluation

    def _loss(self, job: Job, order: Order, work: Path, adapter: Path) -> float:
        assert order.validation is not None
        evaluate = partial(self._heavy.evaluate, order.base, adapter, order.validation, job.method.type)
        options = {"context_tokens": order.context_tokens, "device": order.device}
        return self._quietly(work, partial(evaluate, **options)).loss

    def _quietly(self, work: Path, call: Callable[[], T]) -> T:
        """In the idle thread."""

        def called() -> T:
            with self._heavy.quiet(work):
                return call()

        return self._idle.run(called)

    def _hear(self, job: Job) -> None:
        """The last moment at which a wish is heard: what follows is short. Raises Interrupted."""
        wanted = self._jobs.renew(job.id, self._holder)
        if self._stop.is_set() or wanted != "go":
            raise Interrupted(wanted if wanted != "go" else "pause")

    def _publication(self, base: BaseModel) -> Publication:
        settings = self._settings
        blobs = open_blobs(settings)
        intake = Intake(
            registry=self._registry(base),
            sources=Sources(roots=(settings.training_dir,), remotes=(), max_bytes=settings.max_adapter_bytes),
            blobs=blobs,
            base=base,
            max_rank=settings.max_rank,
            max_bytes=settings.max_adapter_bytes,
            prompt_tuning=settings.prompt_tuning,
        )
        files = Files(
            self._database,
            blobs,
            max_bytes=settings.max_file_bytes,
            on_write=partial(feed.bump, topic="files"),
        )
        return Publication(intake=intake, jobs=self._jobs, files=files)

    def _registry(self, base: BaseModel) -> Registry:
        settings = self._settings
        assistants = Assistants(self._database, file=settings.assistants_file)
        return Registry(
            self._database,
            open_blobs(settings),
            base_name=settings.base_name,
            base_fingerprint=base.fingerprint,
            # that it is no other model's name was seen to when the job was made
            reserved=lambda name: name == settings.base_name or assistants.find(name) is not None,
            max_pins=settings.max_adapters - 1,
            on_write=partial(feed.bump, topic="adapters"),
        )

    def _wait_for_room(self, job: Job, error: Exception) -> None:
        """Pause the job: what it has learnt up to its last checkpoint is worth more than a quick failure."""
        logger.error("job %s is paused: %s", job.id, error)
        self._jobs.say(job.id, "error", "The disk is full; make room and resume the job", {"code": "disk_full"})
        self._jobs.pause(job.id, None)
        self._jobs.put_down(job.id, self._holder, "paused")


def _facts(trained: Trained, evaluation: Mapping[str, Any] | None, version: str) -> dict[str, Any]:
    last = trained.steps[-1]
    told = {
        **trained.facts,
        "hyperparameters": trained.plan.hyperparameters(),
        "learning_rate": trained.plan.learning_rate,
        "train_loss": last.train_loss,
        "valid_loss": last.valid_loss,
        "version": version,
    }
    return dict(finite(told | ({"evaluation": evaluation} if evaluation is not None else {})))
