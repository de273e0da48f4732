"""The parts of a running server, made once and handed to every route."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from adapters.base_model import BaseModel
from adapters.registry import Registry
from adapters.sources import Sources
from adapters.training.jobs import Jobs
from retrieval.attachments import Attachments
from retrieval.embedding import Embedder
from retrieval.files import Files
from retrieval.reembedding_table import Reembeddings
from retrieval.search import Searcher
from retrieval.store_names import StoreNames
from retrieval.stores import Stores
from server.admission import Admission
from server.assistants import Catalogue
from server.auth import Authenticator
from server.background import Background
from server.engine.base import Engine
from server.freshness import Freshness
from server.intake import Intake
from server.job_intake import JobIntake
from server.metrics import Metrics
from server.query_vectors import QueryVectors
from server.settings import Settings
from server.slots import Slots
from server.storage.assistants import Assistants
from server.storage.blob_store import BlobStore
from server.storage.callers import Caller
from server.storage.database import Database
from server.storage.keys import Keys
from server.storage.responses import Responses
from server.store_use import StoreUse


def pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Threads that its name tells apart in logs and profilers."""
    return ThreadPoolExecutor(threads, thread_name_prefix=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a request may need; nothing else is global."""

    settings: Settings
    engine: Engine
    base: BaseModel
    database: Database
    blobs: BlobStore
    keys: Keys
    registry: Registry
    sources: Sources
    slots: Slots
    assistants: Assistants
    responses: Responses
    catalogue: Catalogue
    authenticator: Authenticator
    freshness: Freshness
    admission: Admission
    metrics: Metrics
    background: Background
    embedder: Embedder
    query_vectors: QueryVectors
    files: Files
    stores: Stores
    store_names: StoreNames
    attachments: Attachments
    reembeddings: Reembeddings
    searcher: Searcher
    store_use: StoreUse
    jobs: Jobs
    job_intake: JobIntake
    storage_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("storage", 4))
    adapter_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("adapters", 2))
    fetching_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("fetching", 4))  # waits for other hosts
    embedding_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("embedding", 1))
    query_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("queries", 1))
    retrieval_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("retrieval", 4))
    file_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("files", 4))  # waits for the disk

    data_pool: ThreadPoolExecutor = field(default_factory=lambda: pool("data", 1))  # reads training files

    @property
    def intake(self) -> Intake:
        """What registering an adapter needs of these."""
        return Intake(
            registry=self.registry,
            sources=self.sources,
            blobs=self.blobs,
            base=self.base,
            max_rank=self.settings.max_rank,
            max_bytes=self.settings.max_adapter_bytes,
            prompt_tuning=self.settings.prompt_tuning,
        )

    def close(self) -> None:
        """Let the threads and the database go; the engine is closed by who started it."""
        for pool in (
            self.storage_pool,
            self.adapter_pool,
            self.fetching_pool,
            self.embedding_pool,
            self.query_pool,
            self.retrieval_pool,
            self.file_pool,
            self.data_pool,
        ):
            pool.shutdown(wait=False, cancel_futures=True)
        self.searcher.close()
        self.database.close()


async def get_services(request: Request) -> Services:
    """The record that `create_app` was given; async, since FastAPI would call a plain function in a thread."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_caller(request: Request, services: ServicesDep) -> Caller:
    """Who asks; 401 or 403 where nobody may, 503 where it is not known any more who may."""
    services.freshness.check()
    caller = services.authenticator.caller(request.headers)
    request.state.key_id = caller.key_id
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]
