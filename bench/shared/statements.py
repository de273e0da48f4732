"""What one request costs the database and the bucket, counted: the same however busy the machine is.

The application is in this process, around an engine that answers from a script, and nothing runs beside it: what
follows other servers' changes twice a second, and what reads files, is not counted. Each kind of request is made a few
times first, so that what is kept in memory is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa

from adapters.base_model import BaseModel
from bench.servers import environment
from bench.shared.places import LOGGED_REQUEST, LOGGED_SQL, Lines, Place
from bench.shared.texts import documents
from retrieval.embedding import Embedder
from server.app import create_app
from server.boot import assemble
from server.engine.fake import FakeEngine
from server.offline_ingestion import OfflineIngestion
from server.services import Services
from server.settings import Settings
from server.storage.database import Database

WARM = 8  # requests of each kind before those that are counted; psycopg prepares a statement with its sixth use
COUNTED = 4
STORES = ("one", "two", "three")

Ask = Callable[[int], Awaitable[object]]  # the how-manieth of its kind it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Of one request; a fraction where requests of the kind differ."""

    statements: float = 0  # that ask for rows or change some
    exchanges: float = 0  # everything that PostgreSQL was sent, transactions' beginnings and ends too; 0 on SQLite
    objects: float = 0  # requests to the bucket


def archives_needed() -> int:
    """How many different adapters `count` uploads."""
    return 2 + WARM + COUNTED


async def count(
    place: Place, folder: Path, *, base: BaseModel, embedder: Embedder, archives: Sequence[bytes]
) -> dict[str, Count]:
    """Each kind of request with its count, in the order they are shown. archives: see `archives_needed`."""
    assert len(archives) >= archives_needed()
    counter = _Counter(place)
    try:
        async with _product(place, folder, base, embedder) as (services, http):
            asks = await _asks(services, http, archives)
            return {kind: await counter.per_request(ask) for kind, ask in asks.items()}
    finally:
        counter.close()


class _Counter:
    """Counts what this process's database connections are told, and what the servers' own logs say."""

    def __init__(self, place: Place) -> None:
        self._told: list[str] = []  # statements; from any thread
        self._sql = Lines(place.sql_log, LOGGED_SQL)
        self._s3 = Lines(place.s3_log, LOGGED_REQUEST)
        sa.event.listen(sa.Engine, "before_cursor_execute", self._hear)

    async def per_request(self, ask: Ask) -> Count:
        """The mean of some, after some that are not counted."""
        for number in range(WARM):
            await ask(number)
        self._new()
        for number in range(COUNTED):
            await ask(WARM + number)
        return Count(**{name: amount / COUNTED for name, amount in self._new().items()})

    def close(self) -> None:
        """Listen no more."""
        sa.event.remove(sa.Engine, "before_cursor_execute", self._hear)

    def _hear(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):  # as SQLite's are told; PostgreSQL's driver tells them itself
            self._told.append(statement)

    def _new(self) -> dict[str, int]:
        told, self._told[:] = list(self._told), []
        return {"statements": len(told), "exchanges": self._sql.new(), "objects": self._s3.new()}


@asynccontextmanager
async def _product(
    place: Place, folder: Path, base: BaseModel, embedder: Embedder
) -> AsyncIterator[tuple[Services, httpx2.AsyncClient]]:
    with environment({**place.settings, "MANYHATS_DATA_DIR": str(folder), "MANYHATS_ENGINE": "fake"}):
        settings = Settings()
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # no time passes: on a busy machine connections would rest, and be asked whether they are there
        database = Database(settings.sql_url, clock=lambda: 0.0)
        database.migrate()
        services = assemble(settings, engine=FakeEngine(), base=base, embedder=embedder, database=database)
        transport = httpx2.ASGITransport(app=create_app(services))
        try:
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
                yield services, http
        finally:
            await services.background.drain(0)
            await services.slots.close()
            services.close()


async def _asks(services: Services, http: httpx2.AsyncClient, archives: Sequence[bytes]) -> dict[str, Ask]:
    """The kinds of requests, over stores, adapters and assistants that are made here."""

    async def post(path: str, body: object) -> Any:
        return (await http.post(path, json=body)).raise_for_status().json()

    async def upload(path: str, filename: str, content: bytes, **form: str) -> Any:
        return (await http.post(path, files={"file": (filename, content)}, data=form)).raise_for_status().json()

    async def file(number: int, place: str = "file") -> str:
        made = await upload("/v1/files", f"{place}.txt", f"{place} {number}".encode(), purpose="assistants")
        return str(made["id"])

    stores = await _stores(services, post, upload)
    first = await upload("/v1/adapters", "a.zip", archives[0], name="moved")
    second = await upload("/v1/adapters/moved/versions", "a.zip", archives[1])
    versions = [first["version"]["id"], second["version"]["id"]]
    waiting = [await file(number, "waiting") for number in range(WARM + COUNTED)]
    for n, name in enumerate(STORES, start=1):
        found = {"file_search": {"vector_store_ids": list(STORES[:n])}}
        await post(
            "/v1/assistants",
            {"name": f"of-{name}", "model": "demo", "tools": [{"type": "file_search"}], "tool_resources": found},
        )

    async def chat(number: int, model: str = "demo", **further: object) -> None:
        said = [{"role": "user", "content": f"What does note {number} say?"}]
        answer = await post("/v1/chat/completions", {"model": model, "messages": said, **further})
        if "retrieval" in further or model.startswith("of-"):
            assert answer["retrieval"]["sources"], "nothing was found, so little was asked for"

    async def search(number: int, store: str) -> None:
        found = await post(f"/v1/vector_stores/{store}/search", {"query": f"What does note {number} say?"})
        assert found["data"]

    async def move(number: int) -> None:
        await post("/v1/adapters/moved/alias", {"version": versions[number % 2]})
        await services.slots.settled()  # the first move lets the version go that chat has loaded

    return {
        "chat": chat,
        "chat by an adapter": lambda number: chat(number, "moved"),
        "chat with sources": lambda number: chat(number, retrieval={"vector_store_ids": [stores["one"]]}),
        "chat with sources of three stores": lambda number: chat(
            number, retrieval={"vector_store_ids": list(stores.values())}
        ),
        "chat by an assistant with a store": lambda number: chat(number, "of-one"),
        "chat by an assistant with three stores": lambda number: chat(number, "of-three"),
        "search": lambda number: search(number, stores["one"]),
        "search by the store's name": lambda number: search(number, "one"),
        "file uploaded": file,
        "file put into a store": lambda number: post(
            f"/v1/vector_stores/{stores['one']}/files", {"file_id": waiting[number]}
        ),
        "adapter uploaded": lambda number: upload("/v1/adapters", "a.zip", archives[2 + number], name=f"new-{number}"),
        "alias moved": move,
        "assistant changed": lambda number: post("/v1/assistants/of-one", {"instructions": f"Answer {number}."}),
        # the last: with a key there is no entrance without one
        "key made": lambda number: asyncio.to_thread(services.keys.create, f"key-{number}"),
    }


async def _stores(
    services: Services, post: Callable[..., Awaitable[Any]], upload: Callable[..., Awaitable[Any]]
) -> dict[str, str]:
    """Ids by name, each store with a file that was read."""
    made = {}
    for number, name in enumerate(STORES):
        made[name] = (await post("/v1/vector_stores", {"name": name}))["id"]
        for filename, text in documents(1, sentences=20, seed=number).items():
            uploaded = await upload("/v1/files", f"{filename}.txt", text.encode(), purpose="assistants")
            await post(f"/v1/vector_stores/{made[name]}/files", {"file_id": uploaded["id"]})
    ingestion = await asyncio.to_thread(OfflineIngestion, services)
    while await asyncio.to_thread(ingestion.step):
        pass
    return made


def table(places: Sequence[Place], found: Sequence[Mapping[str, Count]]) -> str:
    """A row for each kind of request; what a place cannot tell is left out."""
    shown = [
        (place, field.name)
        for place, counts in zip(places, found, strict=True)
        for field in fields(Count)
        if any(getattr(count, field.name) for count in counts.values())
    ]
    by_name = {place.name: counts for place, counts in zip(places, found, strict=True)}
    lines = [
        "| one request | " + " | ".join(f"{place.name}: {_NAMES[name]}" for place, name in shown) + " |",
        "|---|" + "---|" * len(shown),
    ]
    for kind in found[0]:
        figures = (f"{getattr(by_name[place.name][kind], name):g}" for place, name in shown)
        lines.append(f"| {kind} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


_NAMES = {
    "statements": "statements",
    "exchanges": "sent to the database",
    "objects": "requests to the bucket",
}
