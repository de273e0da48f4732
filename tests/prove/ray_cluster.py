"""A server of Ray replicas started for a proof, its processes, and clients that stream from it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

from server import probe
from server.listening import claim_port

START_SECONDS = 420
REPLICA = "ray::ServeReplica:manyhats:Replica"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running one; everything that it started is below `process`."""

    process: subprocess.Popen[bytes]
    address: str
    data: Path
    log: Path
    config: Path

    def reconfigure(self, config: Mapping[str, object]) -> None:
        """Have another configuration rolled out."""
        self.config.write_text(json.dumps(config))
        self.process.send_signal(signal.SIGHUP)

    def replicas(self) -> dict[str, psutil.Process]:
        """The replicas' processes, by number."""
        found = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                if process.name().startswith("ray::") or REPLICA in " ".join(process.cmdline()):
                    for file in process.open_files():
                        path = Path(file.path)
                        if path.name == "lock" and path.parent.parent == self.data / "replicas":
                            found[path.parent.name] = process
        return found

    def routed(self) -> Counter[bool]:
        """Requests for adapters so far, by whether the adapter was resident where they came."""
        text = httpx2.get(f"{self.address}/metrics", timeout=30).raise_for_status().text
        counts: Counter[bool] = Counter()
        for family in text_string_to_metric_families(text):
            if family.name == "manyhats_routed_requests":
                for sample in family.samples:
                    counts[sample.labels["resident"] == "true"] += int(sample.value)
        return counts

    def answering(self) -> set[str]:
        """Replicas that Ray sends requests to, by number."""
        with suppress(httpx2.HTTPError):
            answer = httpx2.get(f"{self.address}/metrics", timeout=30)
            if answer.status_code == 200:
                families = text_string_to_metric_families(answer.text)
                return {sample.labels["replica"] for family in families for sample in family.samples}
        return set()

    def wait_for(self, replicas: int, seconds: float = START_SECONDS) -> float:
        """Until so many answer; returns how long it took."""
        started = time.monotonic()
        while len(self.answering()) < replicas:
            assert self.process.poll() is None, f"the server ended: {self.tail()}"
            assert time.monotonic() - started < seconds, f"{self.answering()} answer after {seconds} s: {self.tail()}"
            time.sleep(0.2)
        return time.monotonic() - started

    def tail(self) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


@contextmanager
def cluster(
    folder: Path, config: Mapping[str, object], settings: Mapping[str, str], *, module: str = "deploy.ray"
) -> Iterator[Cluster]:
    """`python -m deploy.ray` with this file and these settings, once all of its replicas answer."""
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / "serve.yaml", folder / "log"
    file.write_text(json.dumps(config))  # JSON is YAML
    port = claim_port("127.0.0.1", 0)
    data = folder / "data"
    told = {"MANYHATS_PORT": str(port), "MANYHATS_DATA_DIR": str(data), **settings}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--config", str(file)],
            env={**os.environ, **told},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    running = Cluster(process=process, address=f"http://127.0.0.1:{port}", data=data.resolve(), log=log, config=file)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not probe.is_ready(running.address):
            assert process.poll() is None, f"the server ended: {running.tail()}"
            assert time.monotonic() < deadline, f"not ready within {START_SECONDS} s: {running.tail()}"
            time.sleep(0.5)
        replicas = config["replicas"]
        assert isinstance(replicas, int)
        running.wait_for(replicas)
        yield running
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM; what has not ended in time is killed."""
    if process.poll() is not None:
        return
    started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(started, timeout=90)
    for left in alive:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One streamed request, as its client saw it. Times are monotonic seconds."""

    began: float
    first_frame: float | None
    ended: float
    replica: str  # number of who answered, "" for nobody
    error: str  # "" for an answer that came to its end
    in_band: bool  # whether the error stood in a stream that had begun
    frames: int


@dataclass(slots=True)
class Load:
    """Clients that stream one answer after the other, each time from an adapter drawn by chance."""

    address: str
    models: Sequence[str]
    max_tokens: int = 4096
    outcomes: list[Outcome] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, clients: int) -> Iterator[Load]:
        """While the block runs; at its end, what is under way is waited for."""
        threads = [threading.Thread(target=self._client, args=(number,), daemon=True) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join(180)
            assert not any(thread.is_alive() for thread in threads), "a client still waits"

    def _client(self, number: int) -> None:
        chance = random.Random(number)
        with httpx2.Client(timeout=180) as http:
            while not self.stopped.is_set():
                self.outcomes.append(self._ask(http, chance.choice(self.models)))

    def _ask(self, http: httpx2.Client, model: str) -> Outcome:
        body = {
            "model": model,
            "stream": True,
            "max_tokens": self.max_tokens,
            "messages": [{"role": "user", "content": "Tell me of the sea."}],
        }
        began = time.monotonic()
        first: float | None = None
        replica, error, frames, ended = "", "", 0, False
        try:
            with http.stream("POST", f"{self.address}/v1/chat/completions", json=body) as answer:
                replica = answer.headers.get("x-manyhats-replica", "")
                if answer.status_code != 200:
                    error = f"{answer.status_code} {answer.read()[:300]!r}"
                else:
                    for line in answer.iter_lines():
                        if not line.startswith("data: "):
                            continue
                        first = first or time.monotonic()
                        frames += 1
                        if line == "data: [DONE]":
                            ended = True
                        elif '"error"' in line:
                            error = line
        except httpx2.HTTPError as broken:
            error = f"connection: {broken!r}"
        if not ended and not error:
            error = "the stream ended without its end"
        return Outcome(
            began=began,
            first_frame=first,
            ended=time.monotonic(),
            replica=replica,
            error=error,
            in_band=bool(first) and error.startswith("data: "),
            frames=frames,
        )
