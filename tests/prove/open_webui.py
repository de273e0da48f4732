"""Open WebUI as a process of its own in front of a server: `with served(program, server_address, folder) as address:`.

It needs nothing from outside this machine: no model hub, no embedding model, no telemetry, no look for new versions.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import psutil

from bench.servers import free_port

START_SECONDS = 300  # thirty times what it takes on an idle machine
STOP_SECONDS = 30

CONNECTION = {  # what the README tells
    "OPENAI_API_KEY": "none-needed",
    "ENABLE_OLLAMA_API": "False",
    "DEFAULT_MODEL_METADATA": json.dumps({"capabilities": {"builtin_tools": False}}),
}
ALONE = {
    "WEBUI_AUTH": "False",
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "RAG_EMBEDDING_MODEL": "embedder",
    "RAG_OPENAI_API_KEY": "none-needed",
    "ENABLE_VERSION_UPDATE_CHECK": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "True",
}


@contextmanager
def served(program: Path, server: str, folder: Path) -> Iterator[str]:
    """The address of a ready Open WebUI that has `server` as its one connection; its data lie in `folder`."""
    folder.mkdir()
    port = free_port()
    told = {
        "OPENAI_API_BASE_URL": f"{server}/v1",
        "RAG_OPENAI_API_BASE_URL": f"{server}/v1",
        "DATA_DIR": str(folder),
        **CONNECTION,
        **ALONE,
    }
    log = folder.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, "serve", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env={**_inherited(), **told},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _ready(process, f"http://127.0.0.1:{port}", log)
    finally:
        _stop(process)


def _inherited() -> Mapping[str, str]:
    """Our environment without what an interpreter or another Open WebUI would take for its own."""
    return {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}


def _ready(process: subprocess.Popen[bytes], address: str, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"Open WebUI ended with {process.returncode}\n{_tail(log)}"
        with suppress(httpx2.HTTPError):
            if httpx2.get(f"{address}/health", timeout=5).status_code == 200:
                return address
        time.sleep(0.2)
    raise AssertionError(f"not ready after {START_SECONDS} s\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then what is left of it is killed."""
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        for one in [*family, psutil.Process(process.pid)] if process.poll() is None else family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])
