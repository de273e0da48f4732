"""The two servers that are compared: this project's and stock vLLM's own, with the same engine flags."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from server.engine.vllm_flags import vllm_flags
from server.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 600
SHOWN = 3000  # bytes of a log that an error shows: its folder goes with the run
STOP_SECONDS = 60

STOCK = ("-m", "vllm.entrypoints.launchers.api_server.entry")

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server, and all of its processes."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    ready_seconds: float
    log: Path

    def processes(self) -> dict[str, psutil.Process]:
        """By what they do: parent, ingestion and training (ours only), api, core, worker."""
        found = {}
        for process in [root := psutil.Process(self.process.pid), *root.children(recursive=True)]:
            with suppress(psutil.Error):
                found[_role(process)] = process
        found.pop("helper", None)
        return found

    def memory(self) -> dict[str, float]:
        """Resident set of each process in MiB."""
        return {role: process.memory_info().rss / 2**20 for role, process in self.processes().items()}

    def cpu_seconds(self) -> float:
        """CPU time that all processes have used so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes().values())

    def keep_off_worker(self, *others: psutil.Process) -> None:
        """Bind all but the worker, and `others`, to the cores that vLLM did not bind the worker to.

        vLLM leaves them free, so that the kernel may put its engine core, which spins, on the worker's core.
        Nothing is done where the worker has every core.
        """
        processes = self.processes()
        free = os.sched_getaffinity(0) - set(processes.pop("worker").cpu_affinity() or ())
        for process in (*processes.values(), *others) if free else ():
            for thread in process.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, free)

    def call(self, method: str, path: str, body: object = None, *, timeout: float = 60) -> Any:
        """One request with a JSON answer (None for an answer that is no JSON); raises HTTPError."""
        return call(self.port, method, path, body, timeout=timeout)

    def stop(self) -> None:
        """SIGTERM; who has not ended in time is killed."""
        processes = list(self.processes().values()) if self.process.poll() is None else []
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)  # by subprocess first, so that the exit status is its own
        _, alive = psutil.wait_procs(processes, timeout=5)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


def ours(settings: Mapping[str, str], *, folder: Path) -> Server:
    """`manyhats serve` with these settings, ready; its data directory is `folder`/data unless they say otherwise."""
    told = {"MANYHATS_PORT": str(free_port()), "MANYHATS_DATA_DIR": str(folder / "data"), **settings}
    return _start("ours", ["-m", "server", "serve"], told, int(told["MANYHATS_PORT"]), "/ready", folder)


def stock(settings: Mapping[str, str], *, folder: Path, adapters: Mapping[str, Path]) -> Server:
    """vLLM's own server with the flags that ours gives to vLLM under these settings, ready."""
    with environment(settings):
        flags = vllm_flags(Settings(), device="cpu")
        kv_cache = Settings().kv_cache_gib
    port = free_port()
    modules = [f"{name}={path}" for name, path in adapters.items()]
    return _start(
        "stock",
        [*STOCK, *flags, "--host", "127.0.0.1", "--port", str(port), "--lora-modules", *modules],
        {
            "VLLM_CPU_KVCACHE_SPACE": str(kv_cache),
            "TORCH_COMPILE_DISABLE": "1",  # as ours has it
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        },
        port,
        "/health",
        folder,
    )


def call(port: int, method: str, path: str, body: object = None, *, timeout: float = 60) -> Any:
    """One request with a JSON answer (None for an answer that is no JSON); raises HTTPError."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with _opener.open(request, timeout=timeout) as answer:
        content = answer.read()
    with suppress(ValueError):
        return json.loads(content)
    return None


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """These variables, and no others of the project's, for as long as the block runs."""
    touched = {key for key in os.environ if key.startswith("MANYHATS_")} | set(settings)
    before = {key: os.environ.pop(key) for key in touched if key in os.environ}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key in settings:
            os.environ.pop(key, None)
        os.environ.update(before)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _start(name: str, command: list[str], told: Mapping[str, str], port: int, ready: str, folder: Path) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MANYHATS_")}
    started = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**inherited, **told},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while time.monotonic() - started < START_SECONDS:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {_end_of(log)}")
            with suppress(OSError):
                call(port, "GET", ready, timeout=5)
                return Server(name=name, port=port, process=process, ready_seconds=time.monotonic() - started, log=log)
            time.sleep(0.1)
        raise RuntimeError(f"{name} was not ready after {START_SECONDS} s: {_end_of(log)}")
    except BaseException:
        Server(name=name, port=port, process=process, ready_seconds=0, log=log).stop()
        raise


def _end_of(log: Path) -> str:
    return log.read_bytes()[-SHOWN:].decode(errors="replace")


def _role(process: psutil.Process) -> str:
    # vLLM names its processes after what they do
    title = " ".join(process.cmdline())
    if "EngineCore" in title:
        return "core"
    if "Worker" in title:
        return "worker"
    if "server serve" in title:
        return "parent"
    if "server ingestion" in title:
        return "ingestion"
    if "server training" in title:
        return "training"
    if "server api" in title or "api_server.entry" in title:
        return "api"
    return "helper"
