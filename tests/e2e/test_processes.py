"""The whole of `manyhats serve` without a model: two processes, a data directory, and the command line beside them."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from server import probe
from server.settings import DEMO_DIR
from server.storage.data_lock import read_address

LONG = 120.0  # seconds; the first start imports torch and reads the base model on a cold disk
ADAPTER = str(min((DEMO_DIR / "adapters").iterdir()))


class Served:
    """A running `manyhats serve --engine fake`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MANYHATS_")}
        self.env = clean | {"MANYHATS_DATA_DIR": str(data_dir), "MANYHATS_ENGINE": "fake", "MANYHATS_PORT": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "serve"],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def banner(self) -> str:
        """What it prints each time that it has become ready, up to the line to try."""
        lines: list[str] = []
        assert self.process.stdout
        for line in self.process.stdout:
            lines.append(line)
            if "curl" in line:
                return "".join(lines)
        pytest.fail(f"it ended with {self.process.wait()} before it was ready")

    @property
    def address(self) -> str:
        """Where it listens, as the command line finds it."""
        found = read_address(self.data_dir)
        assert found
        return found

    @property
    def api_process(self) -> psutil.Process:
        """The child that answers HTTP."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def manyhats(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """The command line, on the same data directory."""
        return subprocess.run(
            [sys.executable, "-m", "server", *words], env=self.env | env, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served") / "data")
    watchdog = threading.Timer(LONG * 2, server.process.kill)
    watchdog.start()
    yield server
    watchdog.cancel()
    server.process.kill()
    server.process.wait()
    assert server.process.stdout
    server.process.stdout.close()


def test_the_banner_says_what_to_try(served: Served) -> None:
    banner = served.banner()
    assert served.address in banner
    assert "demo" in banner
    assert probe.is_ready(served.address)


def test_the_command_line_finds_the_server(served: Served) -> None:
    added = served.manyhats("adapters", "add", ADAPTER, "--name", "mine", "--json")
    assert added.returncode == 0, added.stderr
    assert "mine" in probe.list_models(served.address).names  # the running server knows it
    version = json.loads(added.stdout)["version"]["id"]
    assert version in served.manyhats("adapters", "list").stdout
    assert "mine" in served.manyhats("adapters", "list", "--url", served.address).stdout


def test_a_second_server_is_refused_and_says_where_the_first_is(served: Served) -> None:
    second = served.manyhats("serve")
    assert second.returncode == 1
    assert served.address in second.stderr


def test_the_api_process_comes_back_on_the_same_address_after_a_kill(served: Served) -> None:
    address, killed = served.address, served.api_process
    killed.kill()
    banner = served.banner()
    assert address in banner
    assert served.api_process.pid != killed.pid
    assert "mine" in probe.list_models(address).names  # what was registered is there


def test_a_key_made_beside_the_server_closes_it(served: Served) -> None:
    made = served.manyhats("keys", "create", "ops", "--role", "admin", "--json")
    secret = json.loads(made.stdout)["key"]
    while not probe.list_models(served.address).needs_key:  # within a second, by the change feed
        threading.Event().wait(0.05)
    refused = served.manyhats("adapters", "list")
    assert refused.returncode == 1
    assert "MANYHATS_API_KEY" in refused.stderr
    allowed = served.manyhats("adapters", "list", MANYHATS_API_KEY=secret)
    assert "mine" in allowed.stdout


def test_sigterm_ends_it_and_leaves_nothing(served: Served) -> None:
    address, child = served.address, served.api_process
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(LONG) == 0
    assert not child.is_running()
    assert read_address(served.data_dir) is None
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{address}/health", timeout=5)


def test_without_a_server_the_command_line_works_on_the_data_directory(served: Served) -> None:
    listed = served.manyhats("adapters", "list", "--json")
    assert "mine" in {one["name"] for one in json.loads(listed.stdout)}


def test_a_model_that_is_none_ends_it_with_its_reason(tmp_path: Path) -> None:
    server = Served(tmp_path / "data")
    server.process.kill()
    server.process.communicate()
    env = server.env | {"MANYHATS_MODEL": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "server", "serve"], env=env, capture_output=True, text=True, check=False, timeout=LONG
    )
    assert ended.returncode == 1
    assert str(tmp_path) in ended.stderr
    assert "ended once before it was ready" in ended.stderr
