"""Ingress, ranking, calls and two whole applications in one process: everything but Ray, which only carries it."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.base_model import BaseModel
from deploy.ray.calls import call
from deploy.ray.folder import ReplicaFolder
from deploy.ray.forwarding import create_ingress
from deploy.ray.messages import ReplicaLost, Request, Start
from deploy.ray.ranking import Ranking, Standing
from deploy.ray.scale import Scale
from deploy.ray.versions import Versions
from retrieval.embedding import Embedder
from server.app import create_app
from server.boot import assemble
from server.engine.fake import FakeEngine
from server.intake import Order, from_source
from server.services import Services
from server.settings import Settings
from server.storage.database import Database

N_ADAPTERS, CLIENTS, REQUESTS = 8, 32, 8
TOLD_SECONDS = 0.02  # how late a router learns what is resident

Choose = Callable[[str, dict[int, Standing]], int]


class LocalReplicas:
    """Two applications, one of which is chosen as a router of Ray's would, by what it was told a moment ago."""

    def __init__(self, services: list[Services], choose: Choose) -> None:
        self.services = services
        self.apps = [create_app(one) for one in services]
        self.choose = choose
        self.busy = Counter[int]()
        self.told: list[set[str]] = [set() for _ in services]
        self.arrived = Counter[bool]()
        self.dead: set[int] = set()

    async def answer(self, request: Request, version: str) -> AsyncGenerator[Start | bytes, None]:
        living = {i: Standing(resident=self.told[i], busy=self.busy[i]) for i in {0, 1} - self.dead}
        chosen = self.choose(version, living)
        if version:
            self.arrived[version in self.services[chosen].slots.occupancy().held] += 1
        self.busy[chosen] += 1
        answer = call(self.apps[chosen], request, parts(request.body))
        try:
            async for part in answer:
                if chosen in self.dead:
                    raise ReplicaLost(f"{chosen} was killed")
                yield part
        finally:
            self.busy[chosen] -= 1
            await answer.aclose()

    def keep(self, part: bytes) -> Any:
        return part

    async def metrics(self, request: Request) -> tuple[Start, bytes]:
        raise NotImplementedError

    async def tell(self) -> None:
        while True:
            self.told = [one.slots.needed() for one in self.services]
            await asyncio.sleep(TOLD_SECONDS)


async def parts(body: bytes | tuple[Any, ...]) -> AsyncIterator[bytes]:
    assert isinstance(body, bytes)
    yield body


def by_residency() -> Choose:
    ranking = Ranking[int](spill_at=Scale().spill_at)

    def choose(version: str, replicas: dict[int, Standing]) -> int:
        return min(ranking.ranks(version, replicas)[0], key=lambda i: replicas[i].busy)

    return choose


def by_load(version: str, replicas: dict[int, Standing]) -> int:
    return min(replicas, key=lambda i: (replicas[i].busy, random.random()))


@pytest.fixture
async def two(
    tmp_path: Path, base: BaseModel, embedder: Embedder, migrated: Path, make_adapter: Callable[..., Path]
) -> AsyncIterator[tuple[Settings, list[Services], list[str]]]:
    """Two replicas over one database and one folder of blobs, each with room for half of the adapters."""
    shared = Settings(
        engine="fake",
        data_dir=tmp_path / "data",
        adapter_roots=(str(tmp_path),),
        max_adapters=4,
        max_cpu_adapters=4,
        embedder_threads=1,
    )
    shared.data_dir.mkdir()
    shutil.copyfile(migrated, shared.data_dir / "manyhats.db")
    folders = [ReplicaFolder.take(shared) for _ in range(2)]
    services = [
        assemble(
            folder.settings,
            engine=FakeEngine("one two three four", pause_seconds=0.002),
            base=base,
            embedder=embedder,
            database=Database(folder.settings.sql_url),
        )
        for folder in folders
    ]
    names = [f"adapter-{i}" for i in range(N_ADAPTERS)]
    for seed, name in enumerate(names):
        source = from_source(str(make_adapter(name, seed=seed)))
        services[0].intake.take(Order(name=name, source="test", stage=source))
    services[1].registry.refresh()
    yield shared, services, names
    for one, folder in zip(services, folders, strict=True):
        await one.background.drain(0)
        await one.slots.close()
        one.close()
        folder.close()


async def share_resident(replicas: LocalReplicas, settings: Settings, versions: Versions, names: list[str]) -> float:
    """Of the requests after each client's first three, those that came to where their adapter was resident."""
    app = create_ingress(settings, replicas, versions.engine_name)
    telling = asyncio.create_task(replicas.tell())
    begun = 0

    async def client(number: int, http: httpx2.AsyncClient) -> None:
        nonlocal begun
        chance = random.Random(number)
        for _ in range(REQUESTS):
            begun += 1
            if begun == 3 * CLIENTS:
                replicas.arrived.clear()
            body = {"model": chance.choice(names), "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.text.endswith("data: [DONE]\n\n"), answer.text

    transport = httpx2.ASGITransport(app=app)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http,
        asyncio.TaskGroup() as clients,
    ):
        for number in range(CLIENTS):
            clients.create_task(client(number, http))
    telling.cancel()
    return replicas.arrived[True] / replicas.arrived.total()


@pytest.mark.parametrize("routing", ["by residency", "by load"])
async def test_where_requests_meet_their_adapter(two: tuple[Settings, list[Services], list[str]], routing: str):
    settings, services, names = two
    versions = Versions(settings, base_fingerprint=services[0].base.fingerprint, embedders=[])
    replicas = LocalReplicas(services, by_residency() if routing == "by residency" else by_load)
    share = await share_resident(replicas, settings, versions, names)
    print(f"{routing}: {share:.1%}")
    if routing == "by residency":
        assert share >= 0.9
    else:
        assert share < 0.8
    versions.close()


async def test_who_has_no_byte_of_a_dead_replica_s_answer_gets_another_s(
    two: tuple[Settings, list[Services], list[str]],
):
    settings, services, names = two
    versions = Versions(settings, base_fingerprint=services[0].base.fingerprint, embedders=[])
    in_turn = {name: place % 2 for place, name in enumerate(names)}

    def choose(version: str, living: dict[int, Standing]) -> int:
        return in_turn[version.partition("@")[0]] if len(living) == 2 else min(living)

    replicas = LocalReplicas(services, choose)
    for one in services:
        one.engine.gate.clear()  # type: ignore[attr-defined]  # the fake engine's: streams stand still
    app = create_ingress(settings, replicas, versions.engine_name)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:

        def ask(name: str) -> Any:
            body = {"model": name, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            return asyncio.create_task(http.post("/v1/chat/completions", json=body))

        waiting = [ask(name) for name in names[:4]]  # two on each, none of which has a byte yet
        async with asyncio.timeout(20):
            while replicas.busy != {0: 2, 1: 2}:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0.001)
        replicas.dead.add(0)
        for one in services:
            one.engine.gate.set()  # type: ignore[attr-defined]  # as above
        answers = [await task for task in waiting]
        assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers), "who had no byte was asked again"
        assert (await ask(names[0])).text.endswith("data: [DONE]\n\n")
    versions.close()
