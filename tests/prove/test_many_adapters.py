"""A thousand registered adapters over four slots, beside five: every request is answered under its own name."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from bench.adapters import make_copies, register
from bench.servers import Server, ours
from server.settings import Settings

pytestmark = [pytest.mark.prove, pytest.mark.engine]

CLIENTS = 16
SLOTS = {"MANYHATS_MAX_ADAPTERS": "4"}
MEMORY_GROWTH = 1.25  # of a process, for two hundred times the adapters


def test_a_thousand_adapters_over_four_slots(tmp_path: Path):
    memory = {}
    for n_adapters, n_requests in ((5, 200), (1000, 2000)):
        folder = tmp_path / str(n_adapters)
        names = make_copies(n_adapters, folder / "adapters")
        settings = Settings(data_dir=folder / "data", adapter_roots=(str(folder / "adapters"),), max_adapters=4)
        begun = time.monotonic()
        register(settings, folder / "adapters", names)
        registering = time.monotonic() - begun
        server = ours(SLOTS, folder=folder)
        try:
            at_ready = server.memory()
            asked = [names[number % n_adapters] for number in range(n_requests)]
            begun = time.monotonic()
            seconds, failures = asyncio.run(ask_all(server, asked))
            wall = time.monotonic() - begun
            memory[n_adapters] = server.memory()
            evictions = metric(server, "manyhats_adapter_evictions_total")
            listed = {model["id"] for model in server.call("GET", "/v1/models")["data"]}
        finally:
            server.stop()
        seconds.sort()
        print(
            f"\n{n_adapters} adapters (registered in {registering:.1f} s), 4 slots: ready after "
            f"{server.ready_seconds:.1f} s; {n_requests} requests at {CLIENTS} clients in {wall:.1f} s, "
            f"{failures.total()} errors, median {seconds[len(seconds) // 2] * 1e3:.0f} ms, "
            f"p99 {seconds[len(seconds) * 99 // 100] * 1e3:.0f} ms, {evictions:.0f} evictions"
        )
        for role, mib in memory[n_adapters].items():
            print(f"    {role}: {at_ready[role]:.0f} MiB when ready, {mib:.0f} MiB after the requests")
        assert not failures
        assert set(names) <= listed
    for role, mib in memory[1000].items():
        assert mib < memory[5][role] * MEMORY_GROWTH, f"{role} grew with the number of adapters"


async def ask_all(server: Server, names: list[str]) -> tuple[list[float], Counter[str]]:
    """(seconds of each request, what went wrong and how often)."""
    seconds: list[float] = []
    failures: Counter[str] = Counter()
    todo = iter(names)

    async def ask(client: httpx2.AsyncClient) -> None:
        for name in todo:  # one iterator for all: each takes the next one
            body = {"model": name, "messages": [{"role": "user", "content": "What is bread?"}], "max_tokens": 4}
            begun = time.monotonic()
            answer = await client.post("/v1/chat/completions", json=body)
            seconds.append(time.monotonic() - begun)
            if answer.status_code != 200:
                failures[f"{answer.status_code}: {answer.text[:200]}"] += 1
            elif answer.json()["model"] != name:
                failures[f"{name} was answered as {answer.json()['model']}"] += 1

    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client:
        await asyncio.gather(*(ask(client) for _ in range(CLIENTS)))
    return seconds, failures


def metric(server: Server, name: str) -> float:
    """The sum of a metric's samples."""
    text = httpx2.get(f"http://127.0.0.1:{server.port}/metrics").text
    samples = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in samples)
