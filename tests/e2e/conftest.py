"""The product itself: `python -m server serve` with vLLM on the CPU, in float32, over a data directory of its own.

One server runs at a time, the same one for all tests but those that want another base; these come last.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import psutil
import pytest
from openai.types import VectorStore

from server.storage.data_lock import read_address
from tests.e2e import node_packages
from tests.e2e.library import Library

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240  # ten times what it takes on an idle machine
STOP_SECONDS = 30

FLOAT32 = {"MANYHATS_VLLM_ARGS": "--dtype float32"}
SLOTS = 4
HELD = 6


@dataclass(slots=True)
class House:
    """A data directory, and the one server that runs over it now."""

    folder: Path
    told: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    seen: int = 0  # bytes of the log that earlier servers wrote
    library: Library | None = None  # made for the first test that wants it; like all data, it outlives the server

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def roots(self) -> Path:
        """The folder that adapters may be registered from."""
        return self.folder / "adapters"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def serve(self, told: Mapping[str, str]) -> str:
        """The address of a ready server with these settings; one with others is stopped first."""
        if self.process is not None and self.process.poll() is None and self.told == told:
            return self.address
        self.stop()
        ours = {key: value for key, value in os.environ.items() if not key.startswith("MANYHATS_")}
        settings = {
            "MANYHATS_PORT": "0",
            "MANYHATS_DATA_DIR": str(self.data_dir),
            "MANYHATS_ADAPTER_ROOTS": str(self.roots),
            "MANYHATS_MAX_ADAPTERS": str(SLOTS),
            "MANYHATS_MAX_CPU_ADAPTERS": str(HELD),
            **told,
        }
        self.seen = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server", "serve"],
                cwd=ROOT,
                env={**ours, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.told = told
        self.address = self._wait_ready()
        return self.address

    def stop(self) -> None:
        """SIGTERM, as an init system would; nothing that it started may be left."""
        if self.process is None:
            return
        started = self.processes()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for process in started:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait(STOP_SECONDS)
            raise AssertionError(f"SIGTERM did not stop the server in {STOP_SECONDS} s\n{self.log_tail()}") from None
        finally:
            code, self.process = self.process.returncode, None
        left = [process.cmdline() for process in self.processes()]
        assert not left, f"the server left processes behind: {left}"
        assert code == 0, f"the server ended with {code}\n{self.log_tail()}"

    def processes(self) -> list[psutil.Process]:
        """Every process that runs for this data directory, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("MANYHATS_DATA_DIR") == str(self.data_dir):
                    found.append(process)
        return found

    def log_tail(self, lines: int = 60) -> str:
        """The last lines that the server wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _wait_ready(self) -> str:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}\n{self.log_tail()}")
            if b"starting it again" in self.log.read_bytes()[self.seen :]:
                self.stop()
                raise AssertionError(f"the engine did not start\n{self.log_tail()}")
            address = read_address(self.data_dir)
            if address is not None:
                with suppress(httpx2.HTTPError):
                    if httpx2.get(f"{address}/ready", timeout=5).status_code == 200:
                        return address
            time.sleep(0.2)
        self.stop()
        raise AssertionError(f"not ready after {START_SECONDS} s\n{self.log_tail()}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here needs the engine; those that want another base come last, so that each base starts once."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.engine)
    items.sort(key=lambda item: _place(item) if item in ours else 0)


def _place(item: pytest.Item) -> int:
    fixtures = getattr(item, "fixturenames", ())
    return 1 + ("quantized" in fixtures) + 2 * ("second_base" in fixtures) + 4 * ("soft" in fixtures)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    house = getattr(item, "funcargs", {}).get("house")
    if report.failed and isinstance(house, House):
        report.sections.append(("the server's log", house.log_tail()))
    return report


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(folder=tmp_path_factory.mktemp("house"))
    shutil.copytree(ROOT / "deploy" / "demo" / "adapters", house.roots)
    shutil.copytree(ROOT / "tests" / "e2e" / "adapters", house.roots, dirs_exist_ok=True)
    try:
        yield house
    finally:
        house.stop()


@pytest.fixture
def server(house: House) -> str:
    """The address of the demo, served in float32."""
    return house.serve(FLOAT32)


@pytest.fixture
def http(server: str) -> Iterator[httpx2.Client]:
    """Plain HTTP, for what the official clients lack."""
    with httpx2.Client(base_url=server, timeout=60) as client:
        yield client


@pytest.fixture
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none-needed", base_url=f"{server}/v1", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def library(house: House, client: openai.OpenAI) -> Library:
    """Some files in a vector store, to be searched and answered from; not to be changed."""
    if house.library is None:
        house.library = Library.made(client)
    return house.library


@pytest.fixture
def store(client: openai.OpenAI) -> Iterator[VectorStore]:
    """An empty vector store, which goes after the test."""
    made = client.vector_stores.create(name="a store for one test")
    yield made
    client.vector_stores.delete(made.id)


@pytest.fixture
def claude(server: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="none-needed", base_url=server, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
async def many(server: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client for requests at the same time."""
    async with openai.AsyncOpenAI(api_key="none-needed", base_url=f"{server}/v1", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture
def metric(http: httpx2.Client) -> Callable[..., float]:
    """Read one sample of /metrics: the sum over the series that have these labels; 0 where there is none."""

    def read(name: str, **labels: str) -> float:
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = http.get("/metrics").text.splitlines()
        found = [line for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(label in line for label in wanted))

    return read


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of tests/node; skips where they cannot be had."""
    try:
        return node_packages.node_modules(tmp_path_factory.mktemp("packages"))
    except node_packages.NotThere as reason:
        pytest.skip(str(reason))


@pytest.fixture
def coin(http: httpx2.Client, house: House) -> Iterator[dict[str, Any]]:
    """An adapter `coin` with two versions whose answers have no word in common; the name means heads."""
    made = http.post("/v1/adapters", json={"name": "coin", "source": str(house.roots / "coin-heads")})
    assert made.status_code == 201, made.text
    added = http.post("/v1/adapters/coin/versions", json={"source": str(house.roots / "coin-tails")})
    assert added.status_code == 201, added.text
    yield {"heads": made.json()["version"], "tails": added.json()["version"]}
    assert http.delete("/v1/adapters/coin").status_code == 200
