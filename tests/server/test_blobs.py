"""Two servers, each with a data directory of its own, over one database and one bucket."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest

from adapters.base_model import BaseModel
from retrieval.embedding import Embedder
from retrieval.ingestion import Ingestion
from retrieval.queue import Queue
from retrieval.vectors import Vectors
from server.app import create_app
from server.blobs import open_blobs
from server.boot import assemble
from server.engine.fake import FakeEngine
from server.services import Services
from server.settings import Settings
from server.storage.blobs import LocalBlobs
from server.storage.database import Database
from server.storage.errors import BlobsUnavailable
from server.threads import run_in

TEXT = b"The office in Lisbon opens at nine and closes at six."


@dataclass(frozen=True)
class Server:
    """One of them, and a client of it."""

    services: Services
    engine: FakeEngine
    client: openai.AsyncOpenAI

    async def ingest(self) -> None:
        """Read everything that waits, as the ingestion process does."""
        database = self.services.database
        ingestion = Ingestion(
            Queue(database), self.services.files, Vectors(database), self.services.embedder, holder="test"
        )
        while await run_in(None, ingestion.step):
            pass


@pytest.fixture
async def servers(
    tmp_path: Path, bucket: str, migrated: Path, base: BaseModel, embedder: Embedder
) -> AsyncIterator[tuple[Server, Server]]:
    shutil.copyfile(migrated, tmp_path / "shared.db")

    @asynccontextmanager
    async def serve(name: str) -> AsyncIterator[Server]:
        settings = Settings(
            engine="fake",
            data_dir=tmp_path / name,
            adapter_roots=(str(tmp_path / "made"),),
            database_url=f"sqlite:///{tmp_path / 'shared.db'}",
            blob_url=f"{bucket}/manyhats",
        )
        engine = FakeEngine()
        services = assemble(settings, engine=engine, base=base, embedder=embedder, database=Database(settings.sql_url))
        address = "http://127.0.0.1:8000"
        transport = httpx2.ASGITransport(app=create_app(services))
        async with httpx2.AsyncClient(transport=transport, base_url=address) as http:
            client = openai.AsyncOpenAI(api_key="none", base_url=f"{address}/v1", http_client=http, max_retries=0)
            yield Server(services, engine, client)
        await services.background.drain(0)
        await services.slots.close()
        services.close()

    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serve("one")), await stack.enter_async_context(serve("two"))


def test_where_blobs_are_is_a_setting(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    assert isinstance(open_blobs(settings), LocalBlobs)
    assert (tmp_path / "data" / "blobs").is_dir()


async def test_a_file_of_one_is_read_ingested_and_found_through_the_other(servers: tuple[Server, Server]) -> None:
    one, two = servers
    file = await one.client.files.create(file=("hours.txt", TEXT), purpose="assistants")
    assert not (one.services.settings.data_dir / "blobs").exists()
    assert (await two.client.files.content(file.id)).read() == TEXT
    store = await one.client.vector_stores.create(name="hours", file_ids=[file.id])
    await two.ingest()
    for server in (two, one):
        found = await server.client.vector_stores.search(store.id, query="When does the office open?")
        assert "opens at nine" in found.data[0].content[0].text
    await two.client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        await one.client.files.content(file.id)
    assert two.services.blobs.keys() == []


async def test_an_adapter_of_one_is_loaded_by_the_other(
    servers: tuple[Server, Server], make_adapter: Callable[..., Path]
) -> None:
    one, two = servers
    made = make_adapter("legal")
    await one.client.post("/adapters", body={"name": "legal", "source": str(made)}, cast_to=object)
    two.services.registry.refresh()  # what following the database's changes does
    await two.client.chat.completions.create(model="legal", messages=[{"role": "user", "content": "Hello"}])
    [loaded] = two.engine.loaded.values()
    assert loaded.path.is_relative_to(two.services.settings.blob_cache_dir)
    weights = "adapter_model.safetensors"
    assert (loaded.path / weights).read_bytes() == (made / weights).read_bytes()
    await one.client.delete("/adapters/legal", cast_to=object)
    assert one.services.blobs.keys() == []


async def test_a_restart_of_one_marks_nothing_of_the_other_as_lost(
    servers: tuple[Server, Server], make_adapter: Callable[..., Path]
) -> None:
    one, two = servers
    await one.client.post("/adapters", body={"name": "legal", "source": str(make_adapter("legal"))}, cast_to=object)
    await asyncio.to_thread(two.services.registry.recover)
    assert two.services.registry.get("legal").status == "ready"
    assert not list((two.services.settings.blob_cache_dir / "copies").glob("*"))  # nothing was fetched for it
    for key in one.services.blobs.keys("adapters/"):
        one.services.blobs.remove(key)
    await asyncio.to_thread(two.services.registry.recover)
    assert "gone from the store" in (two.services.registry.get("legal").error or "")
    made = make_adapter("again", seed=0)
    await one.client.post("/adapters", body={"name": "legal", "source": str(made)}, cast_to=object)
    two.services.registry.refresh()
    assert two.services.registry.get("legal").status == "ready"


async def test_a_bucket_that_does_not_answer_is_503_where_it_is_needed(
    servers: tuple[Server, Server], make_adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = servers
    file = await one.client.files.create(file=("hours.txt", TEXT), purpose="assistants")
    await one.client.post("/adapters", body={"name": "legal", "source": str(make_adapter("legal"))}, cast_to=object)
    two.services.registry.refresh()

    def fail(*_: object) -> None:
        raise BlobsUnavailable("no answer from the host of the bucket")

    for name in ("read", "read_many", "create", "upload", "download", "delete", "listed"):
        for server in servers:
            monkeypatch.setattr(server.services.blobs._objects, name, fail)  # type: ignore[attr-defined]  # shared ones
    hello = [{"role": "user", "content": "Hello"}]
    for ask in (
        lambda: two.client.files.content(file.id),
        lambda: two.client.files.create(file=("new.txt", b"new"), purpose="assistants"),
        lambda: two.client.chat.completions.create(model="legal", messages=hello),  # type: ignore[arg-type]  # a literal
    ):
        with pytest.raises(openai.InternalServerError) as raised:
            await ask()
        assert raised.value.status_code == 503
        assert raised.value.response.headers["retry-after"] == "5"
        assert raised.value.code == "object_store_unavailable"
        assert "host of the bucket" not in raised.value.message
    base = two.services.settings.base_name
    assert await two.client.chat.completions.create(model=base, messages=hello)  # type: ignore[arg-type]  # a literal
    assert (await two.client.files.delete(file.id)).deleted  # its bytes stay until the hourly sweep
