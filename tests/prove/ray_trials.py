"""What is done to a running server of replicas: full load, measured; kills under load."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import httpx2

from tests.prove.ray_cluster import Cluster, Load, Outcome

CLIENTS = 32
SETTLE_SECONDS = 8.0  # until every replica holds what it will go on holding


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One stretch of full load; times in seconds."""

    resident: float  # share of the requests for adapters that came to where theirs was
    requests_per_second: float
    tokens_per_second: float
    first_median: float  # until the first frame
    first_p90: float


def loaded(
    server: Cluster, models: Sequence[str], seconds: float, *, clients: int = CLIENTS, max_tokens: int = 4096
) -> Figures:
    """Under full load, once it has settled. Fails where any request does."""
    load = Load(address=server.address, models=models, max_tokens=max_tokens)
    with load.running(clients):
        time.sleep(SETTLE_SECONDS)
        before, began = server.routed(), time.monotonic()
        time.sleep(seconds)
        routed, ended = server.routed() - before, time.monotonic()
    failed = [outcome.error for outcome in load.outcomes if outcome.error]
    assert not failed, f"{len(failed)} of {len(load.outcomes)}: {failed[:3]}"
    within = [outcome for outcome in load.outcomes if began <= outcome.ended <= ended]
    waits = [outcome.first_frame - outcome.began for outcome in within if outcome.first_frame]
    return Figures(
        resident=routed[True] / routed.total(),
        requests_per_second=len(within) / (ended - began),
        tokens_per_second=sum(outcome.tokens for outcome in within) / (ended - began),
        first_median=median(waits),
        first_p90=quantiles(waits, n=10)[-1],
    )


def until(holds: Callable[[], bool], server: Cluster, seconds: float = 300) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, server.tail()
        time.sleep(0.5)


def kill_replicas(
    server: Cluster, models: Sequence[str], *, kills: int, clients: int = CLIENTS, max_tokens: int = 4096
) -> None:
    """One replica after the other under load: its streams say so, and nothing else fails."""
    load = Load(address=server.address, models=models, max_tokens=max_tokens)
    killed: list[tuple[str, float]] = []
    with load.running(clients):
        for kill in range(kills):
            time.sleep(4)
            number = str(kill % 2)
            replicas = server.replicas()
            assert set(replicas) == {"0", "1"}, f"{replicas}: {server.tail()}"
            replicas[number].kill()
            killed.append((number, time.monotonic()))
            replicas[number].wait(30)
            back = server.wait_for(2)
            print(f"kill {kill + 1}: replica {number}; both answer again after {back:.1f} s")
        time.sleep(4)
    broken = [outcome for outcome in load.outcomes if outcome.error]
    unexplained = [outcome for outcome in broken if not of_a_kill(outcome, killed)]
    assert not unexplained, f"{len(unexplained)} of {len(load.outcomes)}: {unexplained[:5]}"
    assert broken, "no stream was cut: nothing was tried"
    for outcome in broken:
        error = json.loads(outcome.error.removeprefix("data: "))["error"]
        assert error["code"] == "replica_lost", error
        assert error["message"]
        assert error["type"] == "server_error"
    waits = [
        outcome.first_frame - outcome.began
        for outcome in load.outcomes
        if outcome.first_frame and any(at < outcome.began < at + 3 for _, at in killed)
    ]
    print(
        f"{len(load.outcomes)} requests, {len(broken)} streams cut by {kills} kills, nothing else failed; "
        f"first frame of those begun within 3 s of a kill: at most {max(waits):.2f} s"
    )
    assert httpx2.get(f"{server.address}/ready", timeout=10).status_code == 200


def of_a_kill(outcome: Outcome, killed: list[tuple[str, float]]) -> bool:
    """Whether it is the stream of a killed replica, cut off by that kill."""
    return outcome.in_band and any(
        number == outcome.replica and outcome.began <= at and outcome.ended >= at - 0.1 for number, at in killed
    )
