"""`kill -9` of the served demo under load: of all its processes, and of each of them alone; and an orderly end.

While clients stream, an admin registers versions and moves names over HTTP, and keeps a journal of what was
acknowledged. Whatever is killed, what was acknowledged is there and served after the restart, nothing is half there,
and no process is left over.
"""

from __future__ import annotations

import json
import random
import signal
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from bench.adapters import make_copies
from bench.servers import Server, ours
from server.listening import claim_port

pytestmark = [pytest.mark.prove, pytest.mark.engine]

NAMES = ("clerk", "poet", "judge")
RECOVERY_SECONDS = 240  # five times what a start takes on an idle machine
ERRORS = (OSError, urllib.error.URLError, httpx2.HTTPError)


def test_the_whole_server_killed_three_times(tmp_path: Path):
    others, chance = set(psutil.pids()), random.Random(20261120)
    journal = Journal(folders=copies(tmp_path, 400), chance=chance)
    for kill in range(3):
        server = ours(settings(tmp_path), folder=tmp_path)
        check(server, journal, tmp_path)
        with load(server) as broken, administration(server, journal):
            time.sleep(1 + chance.random() * 6)
            processes = list(server.processes().values())
            unbroken = list(broken)
            for process in processes:  # the parent first, so that it starts nothing anew
                process.kill()
            server.process.wait(30)
            _, alive = psutil.wait_procs(processes, timeout=30)
            assert not alive
        assert not unbroken, f"requests failed before the kill: {unbroken}"
        assert not of_server(tmp_path, others), "the killed server left a process behind"
        print(f"kill {kill + 1}: {journal.counts()} acknowledged; inside {journal.pending or 'no step'}")
    server = ours(settings(tmp_path), folder=tmp_path)
    try:
        check(server, journal, tmp_path)
    finally:
        server.stop()
    assert server.process.returncode == 0


def test_each_process_killed_alone_and_an_orderly_end(tmp_path: Path):
    others, chance = set(psutil.pids()), random.Random(1120)
    journal = Journal(folders=copies(tmp_path, 200), chance=chance)
    server = ours(settings(tmp_path), folder=tmp_path)
    try:
        for role in ("api", "core", "worker"):
            before = server.processes()
            assert set(before) == {"parent", "api", "core", "worker", "ingestion", "training"}
            memory = sum(server.memory().values())
            with load(server), administration(server, journal):
                time.sleep(1 + chance.random() * 3)
                killed_at = time.monotonic()
                before[role].kill()
                _, alive = psutil.wait_procs([before["api"], before["core"], before["worker"]], timeout=60)
                assert not alive, f"killed the {role}, and {alive} stayed"
                assert before["parent"].is_running()
            wait_ready(server)
            took = time.monotonic() - killed_at
            after = server.processes()
            assert set(after) == {"parent", "api", "core", "worker", "ingestion", "training"}
            tree = {process.pid for process in [after["parent"], *after["parent"].children(recursive=True)]}
            strays = [process for process in of_server(tmp_path, others) if process.pid not in tree]
            assert not strays, f"{strays} were left behind"
            check(server, journal, tmp_path)
            assert sum(server.memory().values()) < memory * 1.2, "memory was not given back"
            print(f"kill -9 of the {role}: ready again by itself after {took:.1f} s")
        drains(server)
    finally:
        server.stop()
    assert not of_server(tmp_path, others)
    claim_port("127.0.0.1", server.port)


def drains(server: Server) -> None:
    """SIGTERM while an answer is streamed: that one ends whole, a new one is refused, and the server ends with 0."""
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    frames: list[str] = []
    refused: list[int] = []
    with httpx2.stream("POST", url, json=question("pirate", 300), timeout=60) as answer:
        for line in answer.iter_lines():
            frames.append(line)
            if len(frames) == 10:
                server.process.send_signal(signal.SIGTERM)
            elif len(frames) == 40:
                with suppress(httpx2.ConnectError):  # not listening any more is as good a refusal
                    refused.append(httpx2.post(url, json=question("demo", 1), timeout=60).status_code)
    data = [frame.removeprefix("data: ") for frame in frames if frame.startswith("data: ")]
    assert data[-1] == "[DONE]"
    assert json.loads(data[-2])["usage"]["completion_tokens"] == 300
    assert refused in ([503], []), refused
    assert server.process.wait(60) == 0


@dataclass(slots=True)
class Journal:
    """What the admin was told is done: for each name its versions and where it points."""

    folders: list[Path]
    chance: random.Random
    versions: dict[str, list[str]] = field(default_factory=dict)
    points_to: dict[str, str] = field(default_factory=dict)
    moves: int = 0
    pending: str = ""  # the step that was sent and not acknowledged
    may_be: dict[str, str] = field(default_factory=dict)  # what a pending step would have made of a name
    failures: list[str] = field(default_factory=list)

    def counts(self) -> str:
        return f"{sum(map(len, self.versions.values()))} versions and {self.moves} moves"

    def step(self, server: Server) -> None:
        """One random step over HTTP; what is acknowledged is noted after its answer and not before."""
        name = self.chance.choice(NAMES)
        if name not in self.versions:
            folder = self.folders.pop()
            self.pending = f"register {name}"
            made = server.call("POST", "/v1/adapters", {"name": name, "source": str(folder)})
            self.versions[name] = [made["version"]["id"]]
            self.points_to[name] = made["version"]["id"]
        elif self.chance.random() < 0.4:
            folder, activate = self.folders.pop(), self.chance.random() < 0.5
            self.pending = f"add a version to {name}, activate={activate}"
            body = {"source": str(folder), "activate": activate}
            made = server.call("POST", f"/v1/adapters/{name}/versions", body)
            self.versions[name].append(made["version"]["id"])
            if activate:
                self.points_to[name] = made["version"]["id"]
        else:
            target = self.chance.choice(self.versions[name])
            self.pending, self.may_be = f"move {name}", {name: target}
            server.call("POST", f"/v1/adapters/{name}/alias", {"version": target})
            self.points_to[name] = target
            self.moves += 1
        self.pending, self.may_be = "", {}


def check(server: Server, journal: Journal, folder: Path) -> None:
    """Everything acknowledged is there and answers; of the last step all or nothing; files and rows agree."""
    assert not journal.failures, journal.failures
    found = {adapter["name"]: adapter for adapter in server.call("GET", "/v1/adapters")["data"]}
    for name, versions in journal.versions.items():
        ids = [version["id"] for version in found[name]["versions"]]
        assert set(versions) <= set(ids), f"{name} lost {set(versions) - set(ids)}"
        further = set(ids) - set(versions)
        assert len(further) <= (1 if name in journal.pending else 0), f"{name} has {further} that nobody asked for"
        target = list(found[name]["traffic"])
        allowed = {journal.points_to[name], journal.may_be.get(name)}
        if "activate=True" in journal.pending and name in journal.pending:
            allowed |= further
        assert len(target) == 1, found[name]
        assert target[0] in allowed, f"{name} means {target[0]}, and {allowed} was acknowledged"
        journal.versions[name], journal.points_to[name] = ids, target[0]
    for name in set(NAMES) & set(found) - set(journal.versions):
        assert journal.pending == f"register {name}"
        journal.versions[name] = [version["id"] for version in found[name]["versions"]]
        journal.points_to[name] = next(iter(found[name]["traffic"]))
    journal.pending, journal.may_be = "", {}
    assert all(adapter["status"] == "ready" for adapter in found.values()), found
    digests = {version["digest"] for adapter in found.values() for version in adapter["versions"]}
    blobs = folder / "data" / "blobs"
    assert {path.parent.name for path in blobs.glob("adapters/**/adapter_model.safetensors")} == digests
    assert not [*(blobs / "staging").iterdir(), *(blobs / "trash").iterdir()]
    for name, versions in journal.versions.items():
        for asked in (name, *versions):
            answer = server.call("POST", "/v1/chat/completions", question(asked, 2, stream=False), timeout=120)
            assert answer["model"] == asked
            assert answer["usage"]["completion_tokens"] == 2


@contextmanager
def load(server: Server) -> Iterator[list[str]]:
    """Four clients that stream from the demo's adapters; yields what went wrong so far."""
    stopping = threading.Event()
    broken: list[str] = []

    def stream(model: str) -> None:
        while not stopping.is_set():
            try:
                url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
                with httpx2.stream("POST", url, json=question(model, 64), timeout=30) as answer:
                    text = answer.read().decode()
                if answer.status_code != 200 or not text.rstrip().endswith("[DONE]"):
                    broken.append(f"{answer.status_code} {text[-300:]}")
            except ERRORS as error:
                broken.append(repr(error))
                stopping.wait(0.2)

    with in_threads(stopping, [lambda model=model: stream(model) for model in ("demo", "pirate", "shout", "json")]):
        yield broken


@contextmanager
def administration(server: Server, journal: Journal) -> Iterator[None]:
    """One admin who takes step after step until one is not acknowledged."""
    stopping = threading.Event()

    def administrate() -> None:
        while not stopping.is_set():
            try:
                journal.step(server)
            except urllib.error.HTTPError as error:
                if error.code != 503:  # the engine's end may be told so; any other refusal is wrong
                    journal.failures.append(f"{journal.pending}: {error.code} {error.read().decode()}")
                error.close()
                return
            except ERRORS:
                return  # killed: the step may have happened or not

    with in_threads(stopping, [administrate]):
        yield


@contextmanager
def in_threads(stopping: threading.Event, runs: list[Callable[[], None]]) -> Iterator[None]:
    """Run until the block ends."""
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


def wait_ready(server: Server) -> None:
    """Until the server answers again."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            server.call("GET", "/ready", timeout=5)
            return
        time.sleep(0.2)
    raise AssertionError(f"not ready again after {RECOVERY_SECONDS} s\n{server.log.read_text()[-4000:]}")


def of_server(folder: Path, others: set[int]) -> list[psutil.Process]:
    """Every process that runs for this data directory, whoever its parent is now; `others` were there before.

    vLLM's processes write their title over their environment, so they are known by that.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            title = process.cmdline()
            if process.pid not in others and (
                (title and title[0].startswith("VLLM::"))
                or process.environ().get("MANYHATS_DATA_DIR") == str(folder / "data")
            ):
                found.append(process)
    return found


def copies(folder: Path, n_copies: int) -> list[Path]:
    """Folders of adapters that differ."""
    return [folder / "adapters" / name for name in make_copies(n_copies, folder / "adapters")]


def settings(folder: Path) -> dict[str, str]:
    """A port that stays the same over all starts, and the folder that adapters come from."""
    chosen = folder / "port"
    if not chosen.exists():
        chosen.write_text(str(claim_port("127.0.0.1", 0)))
    return {"MANYHATS_ADAPTER_ROOTS": str(folder / "adapters"), "MANYHATS_PORT": chosen.read_text()}


def question(model: str, n_tokens: int, *, stream: bool = True) -> dict[str, Any]:
    """A chat request for exactly so many tokens."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is bread made of?"}],
        "max_tokens": n_tokens,
        "ignore_eos": True,
    }
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body
