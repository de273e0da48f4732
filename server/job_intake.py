"""How a request becomes a fine-tuning job: the names checked, the data copied, read line by line and counted, the row.

Synchronous: runs in the data pool. The training process does the rest.
"""

from __future__ import annotations

import re
import secrets
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adapters.adapter import Version
from adapters.base_model import BaseModel
from adapters.errors import NameInvalid, NameTaken, OtherBase
from adapters.registry import Registry
from adapters.training.errors import DataInvalid, JobInvalid
from adapters.training.folders import TRAINING, VALIDATION, JobFolders
from adapters.training.job import Job, JobFile
from adapters.training.jobs import Jobs, new_job_id
from adapters.training.method import Kind, Method, Publish
from adapters.training.parent import shape_of
from retrieval.errors import FileNotFound
from retrieval.file import File
from retrieval.files import Files
from server.errors import ApiError, to_api_error
from server.job_estimate import first_events
from server.settings import Settings
from server.storage.assistants import Assistants
from server.training_tokens import Tokens

if TYPE_CHECKING:
    from adapters.training.data.counting import Counts

LONGEST_SUFFIX = 64  # characters, as OpenAI has it

FileParam = Literal["training_file", "validation_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What a client asks for; its form has been checked, and nothing else."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    method: Method = field(default_factory=Method)
    publish: Publish = "always"
    metadata: Mapping[str, str] = field(default_factory=dict)


class JobIntake:
    """Makes jobs of one data directory."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        folders: JobFolders,
        files: Files,
        registry: Registry,
        assistants: Assistants,
        base: BaseModel,
        settings: Settings,
        tokens: Tokens,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jobs = jobs
        self._folders = folders
        self._files = files
        self._registry = registry
        self._assistants = assistants
        self._base = base
        self._settings = settings
        self._tokens = tokens
        self._clock = clock

    def take(self, new: NewJob, *, owner: str, sees: str | None) -> Job:
        """The queued job, its data copied. owner: of the job. sees: whose files may be named, None is everybody's.

        Raises JobInvalid, ApiError with the line of a file that cannot be used, and what the registry says of names.
        """
        parent = self._parent(new)
        self._check_method(new, parent)
        shape = None if parent is None else shape_of(self._registry.path(parent))
        training = self._file(new.training_file, "training_file", sees)
        validation = None if new.validation_file is None else self._file(new.validation_file, "validation_file", sees)
        suffix = self._suffix(new.suffix, training.filename)
        job_id = new_job_id()
        folder = self._copied(job_id, training, validation)
        try:
            kind = new.method.type
            counts = self._counted(folder / TRAINING, kind, "training_file")
            checked = self._counted(folder / VALIDATION, kind, "validation_file") if validation else None
            job = Job(
                id=job_id,
                owner=owner,
                status="queued",
                created_at=self._clock(),
                base_name=self._settings.base_name,
                base_fingerprint=self._base.fingerprint,
                model=new.model if parent is None else parent.id,
                parent=None if parent is None else parent.id,
                suffix=suffix,
                method=new.method,
                seed=secrets.randbelow(2**31) if new.seed is None else new.seed,
                publish=new.publish,
                metadata=new.metadata,
                training=_job_file(training, counts),
                validation=_job_file(validation, checked) if validation and checked else None,
            )
            speed = self._jobs.tokens_per_second(job.base_fingerprint, kind)
            events = first_events(job, counts, self._base, speed, self._clock(), parent=shape)
            return self._jobs.create(job, *events)
        except BaseException:
            self._folders.remove(job_id)
            raise

    def _parent(self, new: NewJob) -> Version | None:
        """The version that training goes on from; None for the bare base."""
        if new.model == self._settings.base_name:
            return None
        if self._assistants.find(new.model) is not None:
            raise JobInvalid(f"{new.model!r} is an assistant; name the base model or an adapter", param="model")
        version = self._registry.resolve(new.model)
        if new.model == version.adapter and len(self._registry.get(version.adapter).active) > 1:
            raise JobInvalid(
                f"{new.model!r} means several versions now; name the one to go on from, such as {version.id}",
                param="model",
            )
        return version

    def _check_method(self, new: NewJob, parent: Version | None) -> None:
        kind, asked = new.method.type, new.method.hyperparameters
        place = f"method.{kind}.hyperparameters"
        if kind == "prompt_tuning" and not self._settings.prompt_tuning:
            raise JobInvalid(
                "soft prompts are switched off here; MANYHATS_PROMPT_TUNING=true switches them on", param="method.type"
            )
        if new.publish == "if_better" and new.validation_file is None:
            raise JobInvalid("`if_better` compares on a validation_file, and none is given", param="publish")
        if parent is not None and parent.is_soft_prompt != (kind == "prompt_tuning"):
            what = "a soft prompt, and only prompt_tuning" if parent.is_soft_prompt else "a LoRA, and any other method"
            raise JobInvalid(f"{parent.id} is {what} goes on from it", param="method.type")
        if parent is not None and "lora" in asked.model_fields_set:
            raise JobInvalid(
                f"training goes on from {parent.id}, whose shape stays as it is; leave `lora` out",
                param=f"{place}.lora",
            )
        if kind == "prompt_tuning":
            return
        if asked.lora.r > self._settings.max_rank:
            raise JobInvalid(
                f"rank {asked.lora.r} cannot be served: MANYHATS_MAX_RANK is {self._settings.max_rank}",
                param=f"{place}.lora.r",
            )
        if asked.lora.target_modules != "all-linear":
            self._check_targets(asked.lora.target_modules, f"{place}.lora.target_modules")

    def _check_targets(self, targets: tuple[str, ...], param: str) -> None:
        layers = [name for name in self._base.modules if name != self._base.output]
        known = sorted({name.rpartition(".")[2] for name in layers})
        for target in targets:
            if not any(name == target or name.endswith(f".{target}") for name in layers):
                raise JobInvalid(f"the base has no linear layers {target!r}; it has {known}", param=param)

    def _file(self, file_id: str, param: FileParam, sees: str | None) -> File:
        try:
            file = self._files.get(file_id, sees)
        except FileNotFound as error:
            raise JobInvalid(str(error), param=param) from None
        if file.purpose != "fine-tune":
            raise JobInvalid(
                f"{file.id} was uploaded for {file.purpose!r}; upload it with purpose 'fine-tune'", param=param
            )
        most = self._settings.max_training_bytes
        if file.bytes > most:
            raise JobInvalid(
                f"{file.filename!r} has {file.bytes} bytes, and MANYHATS_MAX_TRAINING_BYTES allows {most}", param=param
            )
        return file

    def _suffix(self, asked: str | None, filename: str) -> str:
        suffix = suffix_of(filename) if asked is None else asked
        try:
            if len(suffix) > LONGEST_SUFFIX:
                raise JobInvalid(
                    f"the suffix has {len(suffix)} characters; it may have {LONGEST_SUFFIX}", param="suffix"
                )
            self._registry.check_takes(suffix)
        except (NameInvalid, NameTaken, OtherBase) as error:
            told = to_api_error(error)
            raise ApiError(told.status, told.message, type=told.type, param="suffix", code=told.code) from None
        return suffix

    def _copied(self, job_id: str, training: File, validation: File | None) -> Path:
        paths = {param: self._files.path(file) for param, file in (("a", training), ("b", validation)) if file}
        return self._folders.make(job_id, paths["a"], paths.get("b"))

    def _counted(self, path: Path, kind: Kind, param: FileParam) -> Counts:
        try:
            return self._tokens.count(path, kind)
        except DataInvalid as error:
            raise ApiError(400, f"{param}: {error}", param=param, code=error.kind) from None


def suffix_of(filename: str) -> str:
    """An adapter's name for a job that was given none: after its file, and never one that is taken."""
    plain = unicodedata.normalize("NFKD", Path(filename).stem).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._")[:40]
    return f"{name or 'tuned'}-{secrets.token_hex(3)}"


def _job_file(file: File, counts: Counts) -> JobFile:
    return JobFile(
        id=file.id,
        digest=file.digest,
        n_examples=counts.n_examples,
        n_tokens=counts.n_tokens,
        n_trained_tokens=counts.n_trained_tokens,
        is_estimate=counts.is_estimate,
    )
