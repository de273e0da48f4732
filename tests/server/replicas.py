"""Servers over one database, in one process: each with its own memory, connections, caches and follower."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
from pydantic import SecretStr

from adapters.base_model import BaseModel
from retrieval.embedding import Embedder
from server.agreement import follow
from server.app import create_app
from server.boot import assemble
from server.engine.fake import FakeEngine
from server.freshness import Freshness
from server.services import Services
from server.settings import Settings
from server.storage.database import Database


@dataclass(frozen=True)
class Replica:
    """A server that answers, and its parts."""

    http: httpx2.AsyncClient
    services: Services


@asynccontextmanager
async def replica(
    url: str, folder: Path, *, base: BaseModel, embedder: Embedder, clock: Callable[[], float] | None = None
) -> AsyncIterator[Replica]:
    """One over this database; `folder/blobs` is shared by those of one test. clock: of how old memory may be."""
    data_dir = _data_dir(folder)
    settings = Settings(
        engine="fake", data_dir=data_dir, database_url=SecretStr(url), adapter_roots=(str(folder / "made"),)
    )
    services = assemble(settings, engine=FakeEngine(), base=base, embedder=embedder, database=Database(url))
    if clock is not None:
        services = replace(services, freshness=Freshness(settings.stale_seconds, clock=clock))
    following = asyncio.create_task(follow(services))
    transport = httpx2.ASGITransport(app=create_app(services))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
            yield Replica(http, services)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await services.background.drain(0)
        await services.slots.close()
        services.close()


def _data_dir(folder: Path) -> Path:
    data_dir = folder / f"data-{len(list(folder.glob('data-*')))}"
    data_dir.mkdir()
    (folder / "blobs").mkdir(exist_ok=True)
    (data_dir / "blobs").symlink_to(folder / "blobs")
    return data_dir


async def until(true: Callable[[], bool], *, seconds: float = 20) -> None:
    """Return when it is true; fails after these seconds."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # what another server has told of sets no event of ours
            await asyncio.sleep(0.01)
