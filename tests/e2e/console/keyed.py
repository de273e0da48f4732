"""A server of its own with API keys: the one that other tests share must stay open to this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from server.storage.data_lock import read_address

KEYS = """
- {name: boss, key: secret-of-an-admin, role: admin}
- {name: ann, key: secret-of-an-inference-key, role: inference, models: ["demo*"]}
"""
ADMIN = "secret-of-an-admin"
INFERENCE = "secret-of-an-inference-key"
SECONDS = 120


@contextmanager
def keyed_server(folder: Path) -> Iterator[str]:
    """The address of a server that answers from a script, as soon as it listens: it may still be starting."""
    keys = folder / "keys.yaml"
    keys.write_text(KEYS)
    told = {"DATA_DIR": str(folder / "data"), "ENGINE": "fake", "PORT": "0", "API_KEYS_FILE": str(keys)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MANYHATS_")}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve"],
            env=clean | {f"MANYHATS_{name}": value for name, value in told.items()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(folder / "data", process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


def _address(data_dir: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        address = read_address(data_dir)
        if address is not None:
            with suppress(httpx2.HTTPError):
                httpx2.get(f"{address}/health", timeout=5)
                return address
        time.sleep(0.05)
    raise AssertionError(f"nothing listens after {SECONDS} s")
