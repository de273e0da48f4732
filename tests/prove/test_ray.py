"""Replicas on Ray under load: requests go where their adapter is, and a killed replica is nobody else's trouble."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from bench.adapters import make_copies, register
from server.settings import load_settings
from tests.prove.ray_cluster import Cluster, Load, Outcome, cluster

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed: `make serve-ray` installs it"
    ),
]

N_ADAPTERS, CLIENTS, KILLS = 8, 32, 10
PLAIN = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"  # Ray's own, which is told no residency
PACED = "tests.prove.ray_paced"
CONFIG = {"replicas": 2, "cpus_per_replica": 0.5, "workers": False}
# half of the adapters fit into each replica: whoever is sent to the wrong one waits for a load
TIGHT = {"MANYHATS_ENGINE": "fake", "MANYHATS_MAX_ADAPTERS": "4", "MANYHATS_MAX_CPU_ADAPTERS": "4"}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Folders of as many adapters, and their names."""
    folder = tmp_path_factory.mktemp("adapters")
    return folder, make_copies(N_ADAPTERS, folder)


@pytest.fixture
def prepared(tmp_path: Path, adapters: tuple[Path, list[str]], embedder_cache: Path) -> Callable[[str], Path]:
    """Makes a folder whose data directory has the adapters, and the embedder as it was converted before."""

    def prepare(name: str) -> Path:
        folder = tmp_path / name
        (folder / "data" / "cache").mkdir(parents=True)
        (folder / "data" / "cache" / "embedder").symlink_to(embedder_cache)
        told = {"MANYHATS_DATA_DIR": str(folder / "data"), "MANYHATS_ADAPTER_ROOTS": str(adapters[0])}
        register(load_settings(told), *adapters)
        return folder

    return prepare


def share_resident(
    server: Cluster, models: list[str], seconds: float, *, max_tokens: int = 4096
) -> tuple[float, float]:
    """Under full load, once it has settled: the share of requests that found their adapter, and requests per second."""
    load = Load(address=server.address, models=models, max_tokens=max_tokens)
    with load.running(CLIENTS):
        time.sleep(8)
        before, began = server.routed(), time.monotonic()
        time.sleep(seconds)
        routed, took = server.routed() - before, time.monotonic() - began
    failed = [outcome.error for outcome in load.outcomes if outcome.error]
    assert not failed, failed[:3]
    return routed[True] / routed.total(), routed.total() / took


def test_requests_go_where_their_adapter_is_resident(
    prepared: Callable[[str], Path], adapters: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PACED_WORDS", "6")
    monkeypatch.setenv("PACED_SECONDS", "0.4")
    models = adapters[1]
    figures = {}
    trials = {"ours": (CONFIG, ""), "plain": (CONFIG, PLAIN), "one": ({**CONFIG, "replicas": 1}, "")}
    for name, (config, router) in trials.items():
        monkeypatch.setenv("PACED_ROUTER", router)
        with cluster(prepared(name), config, TIGHT, module=PACED) as server:
            figures[name] = share_resident(server, models, 30)
        print(f"{name}: {figures[name][0]:.1%} of requests found their adapter, {figures[name][1]:.1f} requests/s")
    assert figures["ours"][0] >= 0.9
    assert figures["plain"][0] < 0.75
    assert figures["ours"][1] > figures["one"][1]


def test_a_replica_killed_ten_times_under_load(
    prepared: Callable[[str], Path], adapters: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PACED_WORDS", "6")
    monkeypatch.setenv("PACED_SECONDS", "0.4")
    with cluster(prepared("kills"), CONFIG, {"MANYHATS_ENGINE": "fake"}, module=PACED) as server:
        kill_replicas(server, adapters[1], CLIENTS, KILLS)


def test_a_change_of_configuration_fails_no_request(
    prepared: Callable[[str], Path], adapters: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PACED_WORDS", "6")
    monkeypatch.setenv("PACED_SECONDS", "0.4")
    with cluster(prepared("change"), CONFIG, {"MANYHATS_ENGINE": "fake"}, module=PACED) as server:
        load = Load(address=server.address, models=adapters[1])
        with load.running(8):
            time.sleep(4)
            old = {process.pid for process in server.replicas().values()}
            changed = {**CONFIG, "settings": {"MANYHATS_MAX_ADAPTERS": "6"}}
            server.reconfigure(changed)
            until(lambda: len(server.replicas()) == 2 and not old & {p.pid for p in server.replicas().values()}, server)
            server.wait_for(2)
            print(f"{len(load.outcomes)} requests until both replicas were new")
            server.reconfigure({**changed, "replicas": 1})
            until(lambda: len(server.replicas()) == 1, server)
            time.sleep(4)
    failed = [outcome for outcome in load.outcomes if outcome.error]
    assert not failed, f"{len(failed)} of {len(load.outcomes)}: {failed[:5]}"
    print(f"{len(load.outcomes)} requests through a change of settings and of the number of replicas, none failed")


def test_what_is_uploaded_is_read_once_and_found_on_every_replica(prepared: Callable[[str], Path]):
    told = {"MANYHATS_ENGINE": "fake", "MANYHATS_TRAINING": "false"}
    with cluster(prepared("files"), {**CONFIG, "workers": True}, told) as server, httpx2.Client(timeout=60) as http:
        text = "The lighthouse of Alta burns whale oil.\n\n" + "Nothing is said here. " * 100_000  # sent in parts
        form = {"files": {"file": ("lighthouse.txt", text)}, "data": {"purpose": "assistants"}}
        file = http.post(f"{server.address}/v1/files", **form).raise_for_status().json()
        assert file["bytes"] == len(text)
        made = {"name": "sea", "file_ids": [file["id"]]}
        store = http.post(f"{server.address}/v1/vector_stores", json=made).raise_for_status().json()
        where = f"{server.address}/v1/vector_stores/{store['id']}"
        until(lambda: http.get(where).json()["status"] == "completed", server)
        answered: set[str] = set()
        while answered != {"0", "1"}:
            found = http.post(f"{where}/search", json={"query": "What does the lighthouse burn?"}).raise_for_status()
            assert "whale oil" in found.json()["data"][0]["content"][0]["text"]
            answered.add(found.headers["x-manyhats-replica"])
        download = http.get(f"{server.address}/v1/files/{file['id']}/content")
        assert download.text == text


@pytest.mark.engine
def test_the_real_engine_is_routed_to_and_killed(
    prepared: Callable[[str], Path], adapters: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
):
    cores = sorted(str(core) for core in os.sched_getaffinity(0))
    config = {**CONFIG, "bind_cores": [cores[0], cores[-1]]}
    told = {"MANYHATS_MAX_ADAPTERS": "4", "MANYHATS_MAX_CPU_ADAPTERS": "4"}
    with cluster(prepared("real"), config, told) as server:
        share, rate = share_resident(server, adapters[1], 40, max_tokens=24)
        print(f"{share:.1%} of requests found their adapter, {rate:.1f} requests/s")
        assert share >= 0.9
        kill_replicas(server, adapters[1], 8, 3, max_tokens=64)


def until(holds: Callable[[], bool], server: Cluster, seconds: float = 300) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, server.tail()
        time.sleep(0.5)


def kill_replicas(server: Cluster, models: list[str], clients: int, kills: int, max_tokens: int = 4096) -> None:
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
