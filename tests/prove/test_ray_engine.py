"""Two replicas with the real engine: right answers from both, passed on as they are made; and what two are worth."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import pytest

from tests.prove.ray_cluster import Cluster, Outcome, ask, cluster
from tests.prove.ray_trials import CLIENTS, Figures, kill_replicas, loaded, until

pytestmark = [
    pytest.mark.prove,
    pytest.mark.engine,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed: `make serve-ray` installs it"
    ),
]

# the core of the first replica and of the second; both on one, as in PROVE_CORES=1,1, where another is taken
CORES = list(filter(None, os.environ.get("PROVE_CORES", "").split(",")))
# half of the adapters fit into each replica: whoever is sent to the wrong one waits for a load
TIGHT = {"MANYHATS_MAX_ADAPTERS": "4", "MANYHATS_MAX_CPU_ADAPTERS": "4"}
BASE = "demo"
ROUNDS, SECONDS = 2, 30


def two_replicas() -> dict[str, object]:
    """Each with a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    return {
        "replicas": 2,
        "cpus_per_replica": 0.5,
        "workers": False,
        "bind_cores": CORES or [str(cores[0]), str(cores[-1])],
    }


def test_both_replicas_answer_alike_and_as_they_go(prepared: Callable[[str], Path], adapters: tuple[Path, list[str]]):
    models = adapters[1]
    with cluster(prepared("real"), two_replicas(), TIGHT) as server:
        before = each_once(server, models)
        assert {outcome.replica for outcome in before.values()} == {"0", "1"}, "the adapters are shared out"
        assert before[models[0]].text != before[BASE].text, "the adapter has an effect"
        both = base_of_both(server)
        assert both["0"] == both["1"] == before[BASE].text
        first, whole = watched_stream(server, models[0])
        print(f"a stream's first frame after {first:.2f} s, while it was being made; its last after {whole:.2f} s")
        figures = loaded(server, models, SECONDS, max_tokens=24)
        print(f"{figures.resident:.1%} of requests found their adapter, {figures.requests_per_second:.1f} requests/s")
        assert figures.resident >= 0.9
        server.replicas()["0"].kill()
        after = each_once(server, models)
        assert {outcome.replica for outcome in after.values()} == {"1"}
        moved = [model for model in models if before[model].replica == "0"]
        assert moved
        for model in before:
            assert after[model].text == before[model].text, f"{model} of replica {before[model].replica} and of 1"
        print(f"{len(moved)} adapters and the base model answered alike from both replicas")
        server.wait_for(2)


def test_a_replica_with_the_real_engine_is_killed_under_load(
    prepared: Callable[[str], Path], adapters: tuple[Path, list[str]]
):
    with cluster(prepared("kills"), two_replicas(), TIGHT) as server:
        kill_replicas(server, adapters[1], kills=3, clients=8, max_tokens=64)


def test_one_replica_against_two(prepared: Callable[[str], Path], adapters: tuple[Path, list[str]]):
    """Prints a table; of the rates it asserts nothing. One server, which is told in turns how many replicas to have."""
    both = two_replicas()
    found: dict[int, list[Figures]] = {1: [], 2: []}
    with cluster(prepared("against"), both, TIGHT) as server:
        for _ in range(ROUNDS):
            for replicas in (2, 1):
                if len(server.replicas()) != replicas:
                    server.reconfigure({**both, "replicas": replicas})
                server.settle(replicas)
                found[replicas].append(loaded(server, adapters[1], SECONDS, max_tokens=24))
                print(row(replicas, found[replicas][-1:]), flush=True)
    print(
        f"\n{CLIENTS} streaming clients over {len(adapters[1])} adapters, room for 4 in each replica; {ROUNDS} rounds"
    )
    print("| replicas | requests that met their adapter | requests/s | tokens/s | first frame, median and p90 |")
    print("|---|---|---|---|---|")
    for replicas, all_of_it in found.items():
        print(row(replicas, all_of_it))
    assert min(figures.resident for figures in found[2]) >= 0.9


def each_once(server: Cluster, models: Sequence[str]) -> dict[str, Outcome]:
    """An answer of each model and of the base, one at a time: what runs beside it may change the last bit of a sum."""
    with httpx2.Client(timeout=180) as http:
        found = {model: ask(http, server.address, model, max_tokens=24) for model in (*models, BASE)}
    failed = [outcome for outcome in found.values() if outcome.error]
    assert not failed, failed
    return found


def base_of_both(server: Cluster) -> dict[str, str]:
    """What the base model says, by replica."""
    said: dict[str, str] = {}

    def once_more() -> bool:
        outcome = each_once(server, [])[BASE]
        said[outcome.replica] = outcome.text
        return set(said) == {"0", "1"}

    until(once_more, server, seconds=60)
    return said


def watched_stream(server: Cluster, model: str) -> tuple[float, float]:
    """Seconds until a long stream's first frame and until its last; between them the server says that it is at work."""
    body = {
        "model": model,
        "stream": True,
        "max_tokens": 1500,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "Tell me of the sea."}],
    }
    began = time.monotonic()
    with (
        httpx2.Client(timeout=180) as http,
        http.stream("POST", f"{server.address}/v1/chat/completions", json=body) as answer,
    ):
        lines = answer.raise_for_status().iter_lines()
        assert next(lines).startswith("data: ")
        first = time.monotonic() - began
        assert server.running() == 1, "what has come is not the whole: a replica still makes it"
        data = [line for line in lines if line]
        whole = time.monotonic() - began
    assert data[-1] == "data: [DONE]"
    assert len(data) > 1000
    with (
        httpx2.Client(timeout=180) as http,
        http.stream("POST", f"{server.address}/v1/chat/completions", json=body) as answer,
    ):
        next(answer.iter_lines())
    until(lambda: server.running() == 0, server, seconds=5)  # who has gone is not answered on
    return first, whole


def row(replicas: int, figures: Sequence[Figures]) -> str:
    """Of the table: the means of all rounds."""
    n = len(figures)
    share, requests, tokens, median, p90 = (
        sum(values) / n
        for values in zip(
            *(
                (one.resident, one.requests_per_second, one.tokens_per_second, one.first_median, one.first_p90)
                for one in figures
            ),
            strict=True,
        )
    )
    return f"| {replicas} | {share:.1%} | {requests:.1f} | {tokens:.0f} | {median:.2f} s, {p90:.2f} s |"
