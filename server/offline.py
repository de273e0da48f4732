"""The administration routes over a data directory that no server holds: what `manyhats adapters` uses then.

The same application, registry and checks as a server's, without an engine: one behaviour, written once.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from fastapi import FastAPI
from starlette.datastructures import Headers

from adapters.base_model import BaseModel
from retrieval.embedding import BUNDLED
from server.app import create_app
from server.auth import LOCAL, Authenticator
from server.boot import assemble
from server.cli_output import CommandFailed
from server.embedders import embedder_of
from server.engine.fake import FakeEngine
from server.offline_ingestion import OfflineIngestion
from server.services import Services
from server.settings import Settings
from server.slots import Slots
from server.storage.callers import Caller
from server.storage.data_lock import DataLock
from server.storage.database import Database


class Offline:
    """Holds the data directory's lock while it is open, so that no server starts meanwhile."""

    def __init__(self, settings: Settings) -> None:
        """Raises DataDirBusy, StorageError, or ValueError for a base model that cannot be read."""
        self._lock = DataLock(settings.data_dir)
        try:
            self._services = _services(settings)
        except BaseException:
            self._lock.close()
            raise
        self.app: FastAPI = create_app(self._services)
        self._ingestion: OfflineIngestion | None = None
        self._training: subprocess.Popen[bytes] | None = None

    async def read_files(self) -> bool:
        """Read and embed some of the files that wait, as a server's ingestion process would; False when none does."""
        if self._ingestion is None:
            self._ingestion = await asyncio.to_thread(OfflineIngestion, self._services)
        return await asyncio.to_thread(self._ingestion.step)

    def start_training(self) -> None:
        """See to it that jobs are trained until this is closed, by a worker as a server has it.

        Raises CommandFailed when there is none any more.
        """
        if self._training is None:
            from server.serve import training_child

            quiet = {**os.environ, "MANYHATS_LOG_LEVEL": "warning"}  # the command itself says what goes on
            self._training = subprocess.Popen(training_child().argv, env=quiet, stdin=subprocess.DEVNULL)  # noqa: S603  # our own
        elif self._training.poll() is not None:
            raise CommandFailed(f"the training worker ended with status {self._training.returncode}; its log says why")

    async def settle(self) -> None:
        """Until what was begun in the background is done."""
        await self._services.background.drain(3600.0)

    def __enter__(self) -> Offline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._training is not None:
            self._training.terminate()  # its job waits then, and goes on from its last checkpoint
            self._training.wait()
        self._services.close()
        self._lock.close()


class _Owner(Authenticator):
    """Who can write the data directory needs no key."""

    def caller(self, headers: Headers) -> Caller:
        return LOCAL


class _NoSlots(Slots):
    """There is no engine to load anything into."""

    async def follow_pins(self) -> None:
        return


def _services(settings: Settings) -> Services:
    base = replace(BaseModel.read(settings.model, cache=settings.base_cache_dir), name=settings.base_name)
    database = Database(settings.sql_url)
    database.migrate()
    engine = FakeEngine()
    embedder = embedder_of(settings, load=False)
    services = assemble(
        settings,
        engine=engine,
        base=base,
        embedder=embedder,
        database=database,
        fingerprint=None if _is_local(settings.embedder) else "",
    )
    slots = _NoSlots(
        engine,
        services.registry,
        services.metrics,
        slots=settings.max_adapters,
        held=settings.held_adapters,
        collects=settings.is_alone,
    )
    return replace(services, authenticator=_Owner(services.keys, settings), slots=slots)


def _is_local(embedder: str) -> bool:
    """Whether the model's files can be read without a hub, which would be asked, and might send the whole model."""
    return embedder == BUNDLED or Path(embedder).is_dir()
