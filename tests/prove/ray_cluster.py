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
from prometheus_client.samples import Sample

from server import probe
from server.listening import claim_port

START_SECONDS = 900  # a machine may be busy with other things
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
        counts: Counter[bool] = Counter()
        for sample in self.samples("manyhats_routed_requests_total"):
            counts[sample.labels["resident"] == "true"] += int(sample.value)
        return counts

    def running(self) -> float:
        """Generations under way or in line, on all replicas."""
        return sum(float(sample.value) for sample in self.samples("manyhats_requests_running"))

    def samples(self, name: str) -> list[Sample]:
        """Of one metric, on all replicas."""
        text = httpx2.get(f"{self.address}/metrics", timeout=30).raise_for_status().text
        families = text_string_to_metric_families(text)
        return [sample for family in families for sample in family.samples if sample.name == name]

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

    def settle(self, replicas: int, seconds: float = START_SECONDS) -> None:
        """Until there are just so many, and all of them answer."""
        deadline = time.monotonic() + seconds
        while not len(self.replicas()) == replicas == len(self.answering()):
            assert self.process.poll() is None, f"the server ended: {self.tail()}"
            assert time.monotonic() < deadline, f"{self.replicas()} after {seconds} s: {self.tail()}"
            time.sleep(0.5)

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

    model: str
    began: float
    first_frame: float | None
    ended: float
    replica: str  # number of who answered, "" for nobody
    error: str  # "" for an answer that came to its end
    in_band: bool  # whether the error stood in a stream that had begun
    frames: tuple[str, ...] = field(repr=False)  # the data of each, as it came

    @property
    def text(self) -> str:
        """What the answer says, put together."""
        chunks = [json.loads(frame) for frame in self.frames if frame.startswith("{")]
        choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    @property
    def tokens(self) -> int:
        """Of the answer; 0 for one that was cut off."""
        told = [json.loads(frame).get("usage") for frame in self.frames if '"usage"' in frame]
        return sum(usage["completion_tokens"] for usage in told if usage)


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
                self.outcomes.append(ask(http, self.address, chance.choice(self.models), max_tokens=self.max_tokens))


def ask(http: httpx2.Client, address: str, model: str, **more: object) -> Outcome:
    """One greedy answer, streamed; `more` goes into the request's body."""
    body = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "messages": [{"role": "user", "content": "Tell me of the sea."}],
        **more,
    }
    began = time.monotonic()
    first: float | None = None
    replica, error, ended = "", "", False
    frames: list[str] = []
    try:
        with http.stream("POST", f"{address}/v1/chat/completions", json=body) as answer:
            replica = answer.headers.get("x-manyhats-replica", "")
            if answer.status_code != 200:
                error = f"{answer.status_code} {answer.read()[:300]!r}"
            else:
                for line in answer.iter_lines():
                    if not line.startswith("data: "):
                        continue
                    first = first or time.monotonic()
                    frames.append(line.removeprefix("data: "))
                    if line == "data: [DONE]":
                        ended = True
                    elif '"error"' in line:
                        error = line
    except httpx2.HTTPError as broken:
        error = f"connection: {broken!r}"
    if not ended and not error:
        error = "the stream ended without its end"
    return Outcome(
        model=model,
        began=began,
        first_frame=first,
        ended=time.monotonic(),
        replica=replica,
        error=error,
        in_band=bool(first) and error.startswith("data: "),
        frames=tuple(frames),
    )
