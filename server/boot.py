"""From settings to a running set of services, in the order that loses the least time.

The engine's processes, the embedder and the base model's shapes are loaded side by side; what they need of each other
comes after.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from adapters.base_model import BaseModel
from adapters.registry import Registry
from adapters.sources import Sources
from adapters.training.folders import JobFolders
from adapters.training.jobs import Jobs
from retrieval.attachments import Attachments
from retrieval.embedding import Embedder
from retrieval.files import Files
from retrieval.reembedding_table import Reembeddings
from retrieval.rerank import Reranker
from retrieval.search import Searcher
from retrieval.store_names import StoreNames
from retrieval.stores import Stores
from server.admission import Admission
from server.assistants import Catalogue
from server.auth import Authenticator
from server.background import Background
from server.blobs import open_blobs
from server.demo import install_demo, wait_until_searchable
from server.demo_documents import DemoDocuments
from server.embedders import embedder_of, reranker_of
from server.engine.base import Engine
from server.engine.fake import FakeEngine
from server.first_load import FirstLoad
from server.freshness import Freshness
from server.job_intake import JobIntake
from server.metrics import Metrics
from server.query_vectors import QueryVectors
from server.routes.models import EMBEDDER
from server.services import Services, pool
from server.settings import Settings
from server.slots import Slots
from server.storage import feed
from server.storage.assistants import Assistants
from server.storage.database import Database
from server.storage.keys import Keys
from server.storage.responses import Responses
from server.store_use import StoreUse
from server.stores_at_start import ask_for_reembedding, begin_reading_documents, tell_of_missing_stores
from server.threads import run_in
from server.training_tokens import Tokens
from server.upkeep import fail_interrupted
from server.vector_service import far_vectors
from server.version import VERSION

logger = logging.getLogger(__name__)

WARM_STORES = 32  # whose indexes are read before anybody asks


async def boot(
    settings: Settings,
    *,
    extra: Sequence[str] = (),
    stage: Callable[[str], None] = lambda _: None,
) -> Services:
    """Start everything; raises what went wrong, with nothing left running.

    A replica puts nothing in order that others may be at work on. The demo is not its to install either: each would
    bring back what its owner has removed.
    """
    started = time.monotonic()
    stage("starting the engine")
    database = await asyncio.to_thread(_open_database, settings)
    engine_task = asyncio.create_task(start_engine(settings, extra=extra))
    try:
        if settings.is_demo and not settings.replica:
            await asyncio.to_thread(begin_reading_documents, settings, database)
        read = await asyncio.to_thread(partial(BaseModel.read, model_folder(settings), cache=settings.base_cache_dir))
        base = replace(read, name=settings.base_name)  # as clients know it
        embedder = await asyncio.to_thread(embedder_of, settings)
        reranker = await asyncio.to_thread(reranker_of, settings)
        engine = await engine_task
    except BaseException:
        engine_task.cancel()
        await asyncio.gather(engine_task, return_exceptions=True)
        raise
    try:
        services = assemble(
            settings,
            engine=engine,
            base=base,
            embedder=embedder,
            database=database,
            reranker=reranker,
        )
        stage("reading the registry")
        await asyncio.to_thread(put_in_order, services)
        await asyncio.to_thread(ask_for_reembedding, services)
        await asyncio.to_thread(tell_of_missing_stores, services)
        stage("loading pinned adapters")
        await services.slots.follow_pins()
        await services.slots.pins_are_in()
        if settings.is_demo and settings.ingestion and not settings.replica:
            stage("reading the demo documents")
            await wait_until_searchable(demo_documents(services), settings.data_dir)
        recent = await run_in(services.storage_pool, services.store_names.last_used, WARM_STORES)
        if recent:
            services.background.start("warm", run_in(services.retrieval_pool, services.searcher.warm, recent))
    except BaseException:
        await engine.close()
        raise
    logger.info("ready after %.1f s", time.monotonic() - started)
    return services


def put_in_order(services: Services) -> None:
    """Mend what the last end has left half-done, and install the demo where it belongs."""
    services.registry.recover(alone=services.settings.is_alone)
    fail_interrupted(services)
    if services.settings.is_demo and not services.settings.replica:
        install_demo(
            services.intake, services.assistants, services.settings.data_dir, documents=demo_documents(services)
        )


def demo_documents(services: Services) -> DemoDocuments:
    """Where the demo's documents go."""
    return DemoDocuments(files=services.files, stores=services.stores, attachments=services.attachments)


async def start_engine(settings: Settings, *, extra: Sequence[str] = ()) -> Engine:
    """The engine of the settings; vLLM is imported in a thread, since that takes seconds."""
    if settings.engine == "fake":
        return FakeEngine()
    device = await asyncio.to_thread(_device)
    for name, value in engine_environment(settings, device, extra).items():
        os.environ.setdefault(name, value)

    def load() -> Callable[..., object]:
        from server.engine.vllm_engine import VllmEngine

        return VllmEngine.start

    start = await asyncio.to_thread(load)
    engine: Engine = await start(settings, device=device, extra=extra)  # type: ignore[misc]  # a coroutine function
    return engine


def engine_environment(settings: Settings, device: str, extra: Sequence[str] = ()) -> dict[str, str]:
    """What vLLM and torch read from the environment of their processes, where the operator has not said otherwise."""
    told = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}  # the product sends nothing anywhere by itself
    told["VLLM_MAX_STOP_STRINGS"] = "16"  # of a message's `stop_sequences`; vLLM's 4 are the limit of OpenAI's `stop`
    if device == "cpu":
        told["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
        if "--no-enforce-eager" not in (*shlex.split(settings.vllm_args), *extra):
            # vLLM compiles one small function for log-probabilities even so, in C++: where no compiler is installed
            # that ended the engine with the first adapter, and where one is, the first request waited for it
            told["TORCH_COMPILE_DISABLE"] = "1"
    return told


def assemble(
    settings: Settings,
    *,
    engine: Engine,
    base: BaseModel,
    embedder: Embedder,
    database: Database,
    fingerprint: str | None = None,
    reranker: Reranker | None = None,
) -> Services:
    """The record of services over parts that are there; opens nothing but the data directory.

    fingerprint: the embedder's, where it is not to be read from the model's files.
    """
    blobs = open_blobs(settings)
    keys = Keys(database, file=settings.api_keys_file)
    models = {settings.base_name, EMBEDDER, embedder.name}
    assistants: Assistants

    def reserved(name: str) -> bool:
        return name in models or assistants.find(name) is not None

    registry: Registry

    def taken(name: str) -> bool:
        return name in models or any(adapter.name == name for adapter in registry.list())

    assistants = Assistants(database, file=settings.assistants_file, taken=taken)
    registry = Registry(
        database,
        blobs,
        base_name=settings.base_name,
        base_fingerprint=base.fingerprint,
        reserved=reserved,
        max_pins=settings.max_adapters - 1,
        on_write=partial(feed.bump, topic="adapters"),
    )
    assistants.check_file_names()
    metrics = Metrics(settings)
    metrics.describe(VERSION)
    admission = Admission(settings)
    metrics.watch_queue(lambda: admission.waiting)
    background = Background()
    storage_pool, query_pool = pool("storage", 4), pool("queries", 1)
    files_changed = partial(feed.bump, topic="files")
    stores = Stores(database, on_write=files_changed)
    files = Files(database, blobs, max_bytes=settings.max_file_bytes, on_write=files_changed)
    jobs = Jobs(database, on_write=partial(feed.bump, topic="training"))
    return Services(
        settings=settings,
        engine=engine,
        base=base,
        database=database,
        blobs=blobs,
        keys=keys,
        registry=registry,
        sources=Sources(
            roots=tuple(Path(root) for root in settings.adapter_roots),
            remotes=settings.adapter_sources,
            max_bytes=settings.max_adapter_bytes,
        ),
        slots=Slots(
            engine,
            registry,
            metrics,
            slots=settings.max_adapters,
            held=settings.held_adapters,
            prompt_tuning=settings.prompt_tuning,
            first_load=None if settings.engine == "fake" else FirstLoad(engine, registry),
            collects=settings.is_alone,
        ),
        assistants=assistants,
        responses=Responses(database),
        catalogue=Catalogue(
            base_name=settings.base_name,
            registry=registry,
            assistants=assistants,
            embedders=(EMBEDDER, embedder.name),
        ),
        authenticator=Authenticator(keys, settings),
        freshness=Freshness(settings.stale_seconds),
        admission=admission,
        metrics=metrics,
        background=background,
        embedder=embedder,
        query_vectors=QueryVectors(embedder, query_pool),
        files=files,
        jobs=jobs,
        job_intake=JobIntake(
            jobs=jobs,
            folders=JobFolders(settings.training_dir),
            files=files,
            registry=registry,
            assistants=assistants,
            base=base,
            settings=settings,
            tokens=Tokens(partial(model_folder, settings), base.context_tokens),
        ),
        stores=stores,
        store_names=StoreNames(database),
        attachments=Attachments(database, on_write=files_changed),
        reembeddings=Reembeddings(database, on_write=partial(feed.bump, topic="ingestion")),
        searcher=Searcher(
            database,
            settings.index_dir,
            fingerprint=embedder.fingerprint if fingerprint is None else fingerprint,
            embedder_name=embedder.name,
            reranker=reranker,
            vectors=far_vectors(settings),
        ),
        store_use=StoreUse(stores, background, storage_pool),
        storage_pool=storage_pool,
        query_pool=query_pool,
    )


def _open_database(settings: Settings) -> Database:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.sql_url)
    database.migrate()
    return database


def model_folder(settings: Settings) -> Path:
    """Where the base model's files are; a hub name is looked up in the hub's cache, or fetched."""
    if Path(settings.model).is_dir():
        return Path(settings.model)
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(settings.model, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"])
    )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
