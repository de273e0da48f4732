"""A data directory with fine-tuning jobs on the demo base, as the API makes them, for tests of who does the work."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from adapters.base_model import BaseModel
from adapters.registry import Registry
from adapters.training.folders import JobFolders
from adapters.training.job import Event, Job, JobFile
from adapters.training.jobs import Jobs, new_job_id
from adapters.training.method import Method
from retrieval.files import Files
from server.settings import DEMO_BASE, Settings
from server.storage import feed
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

DEPARTMENTS = ("Agendamento", "Exames", "Financeiro", "Recepção")
WISHES = ("quero", "preciso", "gostaria de", "posso", "consigo")
MATTERS = {
    "Agendamento": ("marcar consulta", "remarcar a visita", "ver horários livres", "trocar o dia"),
    "Exames": ("buscar o resultado", "preparar o exame", "enviar o laudo", "repetir a coleta"),
    "Financeiro": ("pagar a conta", "pedir reembolso", "receber a nota", "rever o valor"),
    "Recepção": ("achar a entrada", "deixar um pacote", "usar o estacionamento", "falar com alguém"),
}


def clinic_chats() -> list[dict[str, Any]]:
    """80 short messages to a clinic that does not exist, each with the department that it is for."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"{wish} {matter}".capitalize()},
                {"role": "assistant", "content": department},
            ]
        }
        for department in DEPARTMENTS
        for matter in MATTERS[department]
        for wish in WISHES
    ]


class JobDesk:
    """Everything that whoever makes jobs has."""

    def __init__(self, data_dir: Path, database: Database, base: Path = DEMO_BASE, **settings: Any) -> None:
        self.settings = Settings(data_dir=data_dir, model=str(base), **settings)
        self.database = database
        self.jobs = Jobs(database, on_write=partial(feed.bump, topic="training"))
        self.folders = JobFolders(self.settings.training_dir)
        self.blobs = LocalBlobs(data_dir / "blobs")
        self.files = Files(database, self.blobs, max_bytes=10**8)

    @cached_property
    def base(self) -> BaseModel:
        """What transformers says of it: seconds of imports, which not every test needs."""
        return BaseModel.read(self.settings.model, cache=self.settings.base_cache_dir)

    def make(
        self,
        lines: Sequence[Mapping[str, Any]] = (),
        *,
        validation: Sequence[Mapping[str, Any]] | None = None,
        method: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Job:
        """A queued job with its own copy of the data."""
        job_id = new_job_id()
        folder = self.settings.data_dir / "given" / job_id
        folder.mkdir(parents=True)
        told: dict[str, JobFile | None] = {"training": _written(folder / "training.jsonl", lines or clinic_chats())}
        if validation is not None:
            told["validation"] = _written(folder / "validation.jsonl", validation)
        self.folders.make(job_id, folder / "training.jsonl", folder / "validation.jsonl" if validation else None)
        usual = {
            "id": job_id,
            "owner": "ana",
            "status": "queued",
            "created_at": time.time(),
            "base_name": self.settings.base_name,
            "model": self.settings.base_name,
            "suffix": "clinica",
            "method": Method.model_validate(method or {}),
            "seed": 7,
        }
        if "base_fingerprint" not in fields:
            fields["base_fingerprint"] = self.base.fingerprint
        return self.jobs.create(Job(**(usual | told | fields)))

    def job(self, job: Job) -> Job:
        """As it is now."""
        return self.jobs.get(job.id, None)

    def events(self, job: Job) -> list[Event]:
        """Oldest first."""
        return list(self.jobs.events(job.id, None, limit=10_000).items[::-1])

    def messages(self, job: Job) -> list[str]:
        """What is for people, oldest first."""
        return [event.message for event in self.events(job) if event.type == "message"]

    def registry(self) -> Registry:
        """As another process reads it now."""
        return Registry(
            self.database,
            self.blobs,
            base_name=self.settings.base_name,
            base_fingerprint=self.base.fingerprint,
        )


def _written(path: Path, lines: Sequence[Mapping[str, Any]]) -> JobFile:
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return JobFile(
        id=f"file-{digest[:24]}", digest=digest, n_examples=len(lines), n_tokens=len(content), n_trained_tokens=1
    )
