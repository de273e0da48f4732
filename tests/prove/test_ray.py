"""Replicas on Ray under load: requests go where their adapter is, and a killed replica is nobody else's trouble."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from bench.adapters import make_copies
from tests.prove.ray_cluster import Load, cluster
from tests.prove.ray_trials import kill_replicas, loaded, until

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed: `make serve-ray` installs it"
    ),
]

KILLS = 10
PLAIN = "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter"  # Ray's own, which is told no residency
PACED = "tests.prove.ray_paced"
CONFIG = {"replicas": 2, "cpus_per_replica": 0.5, "workers": False}
# half of the adapters fit into each replica: whoever is sent to the wrong one waits for a load
TIGHT = {"MANYHATS_ENGINE": "fake", "MANYHATS_MAX_ADAPTERS": "4", "MANYHATS_MAX_CPU_ADAPTERS": "4"}


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
            figures[name] = loaded(server, models, 30)
        share, rate = figures[name].resident, figures[name].requests_per_second
        print(f"{name}: {share:.1%} of requests found their adapter, {rate:.1f} requests/s")
    assert figures["ours"].resident >= 0.9
    assert figures["plain"].resident < 0.75
    assert figures["ours"].requests_per_second > figures["one"].requests_per_second


def test_a_replica_killed_ten_times_under_load(
    prepared: Callable[[str], Path], adapters: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PACED_WORDS", "6")
    monkeypatch.setenv("PACED_SECONDS", "0.4")
    with cluster(prepared("kills"), CONFIG, {"MANYHATS_ENGINE": "fake"}, module=PACED) as server:
        kill_replicas(server, adapters[1], kills=KILLS)


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
            new = {process.pid for process in server.replicas().values()}
            server.reconfigure({**changed, "replicas": 1})
            until(lambda: len(server.replicas()) == 1, server)
            assert {p.pid for p in server.replicas().values()} <= new, "what has not changed goes on"
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

        def search() -> bool:
            found = http.post(f"{where}/search", json={"query": "What does the lighthouse burn?"}).raise_for_status()
            assert "whale oil" in found.json()["data"][0]["content"][0]["text"]
            answered.add(found.headers["x-manyhats-replica"])
            return answered == {"0", "1"}

        until(search, server)
        download = http.get(f"{server.address}/v1/files/{file['id']}/content")
        assert download.text == text


def test_an_adapter_that_one_replica_was_sent_is_served_by_all(
    prepared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PACED_WORDS", "6")
    monkeypatch.setenv("PACED_SECONDS", "0.4")
    name = make_copies(3, tmp_path / "sent", stem="sent")[-1]  # scaled as none that is registered already
    archive = shutil.make_archive(str(tmp_path / name), "zip", tmp_path / "sent" / name)
    known: set[str] = set()
    config = {**CONFIG, "spill_at": 1}  # a second request at the same time goes to the other replica

    def all_know(http: httpx2.Client) -> bool:
        answer = http.get(f"/v1/adapters/{name}")
        if answer.is_success:
            known.add(answer.headers["x-manyhats-replica"])
        return known == {"0", "1"}

    with cluster(prepared("sent"), config, {"MANYHATS_ENGINE": "fake"}, module=PACED) as server:
        with httpx2.Client(base_url=server.address, timeout=60) as http, Path(archive).open("rb") as file:
            sent = http.post("/v1/adapters", data={"name": name}, files={"file": (f"{name}.zip", file)})
            assert sent.status_code == 201, sent.text
            version = sent.json()["version"]["id"]
            until(lambda: all_know(http), server, seconds=30)
        load = Load(address=server.address, models=[name])
        with load.running(2):
            until(lambda: {outcome.replica for outcome in load.outcomes} == {"0", "1"}, server)
    assert not [outcome.error for outcome in load.outcomes if outcome.error]
    assert all(version in outcome.text for outcome in load.outcomes), "each answer is of the version that was sent"
