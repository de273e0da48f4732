"""A server that is measured, with what the parts ask it about: texts, adapters and an assistant, alike for both."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai

from bench import adapters, servers
from bench.retrieval import client
from bench.shared.places import Place
from bench.shared.samples import Samples
from bench.shared.texts import documents

MODEL = "pirate"  # the demo's
STORE = "bench"
STORE_FILES = 60
SENTENCES = 12  # of a file that is searched
ASSISTANT = "changed"
MOVED = "moved"  # an adapter of two versions
LEARN_SECONDS = 30  # until a server knows what another has registered; it is to take less than one


@dataclass(slots=True, kw_only=True)
class Running:
    """One server, over one place."""

    place: Place
    server: servers.Server
    folder: Path  # with its data directory
    api: openai.OpenAI
    http: httpx.Client  # kept open, without a client library's own work
    store_id: str = ""
    versions: Sequence[str] = ()  # of MOVED
    samples: Samples = field(default_factory=Samples)

    @classmethod
    def start(cls, place: Place, folder: Path, *, roots: Path, engine: str) -> Running:
        """Ready, and empty but for the demo. roots: where adapters may be registered from."""
        settings = {
            "MANYHATS_ADAPTER_ROOTS": str(roots),
            "MANYHATS_TRAINING": "false",
            "MANYHATS_ENGINE": engine,
            **place.settings,
        }
        server = servers.ours(settings, folder=folder)
        base_url = f"http://127.0.0.1:{server.port}"
        http = httpx.Client(base_url=base_url, trust_env=False, timeout=600)
        return cls(place=place, server=server, folder=folder, api=client.connect(server.port), http=http)

    def prepare(self, roots: Path, moved: Sequence[str], cold: Sequence[str]) -> None:
        """What is asked about later. moved: two adapters; cold: registered, and loaded by nobody."""
        ids = client.upload(self.api, documents(STORE_FILES, sentences=SENTENCES, seed=0))
        store, _ = client.ingest(self.api, STORE, list(ids.values()))
        self.store_id = store.id
        first = self.call("POST", "/v1/adapters", {"name": MOVED, "source": str(roots / moved[0])})
        second = self.call("POST", f"/v1/adapters/{MOVED}/versions", {"source": str(roots / moved[1])})
        self.versions = [one["version"]["id"] for one in (first, second)]
        self.call("POST", "/v1/assistants", {"name": ASSISTANT, "model": "demo"})
        self._register(roots, cold)

    def call(self, method: str, path: str, body: object = None, **further: Any) -> Any:
        """One request over the connection that stays open; raises RuntimeError with what was refused."""
        answer = self.http.request(method, path, json=body, **further)
        if answer.is_error:
            raise RuntimeError(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        return answer.json()

    def stop(self) -> None:
        """End it, also when it was never prepared."""
        self.http.close()
        self.api.close()
        self.server.stop()

    def _register(self, roots: Path, names: Sequence[str]) -> None:
        """By another server where there can be one, so that this one has no copy of the bytes."""
        if not self.place.settings:
            for name in names:
                self.call("POST", "/v1/adapters", {"name": name, "source": str(roots / name)})
            return
        other = {"MANYHATS_DATA_DIR": str(self.folder / "other"), "MANYHATS_ADAPTER_ROOTS": str(roots)}
        with servers.environment({**self.place.settings, **other}):
            subprocess.run([sys.executable, "-m", "bench.adapters", str(roots), *names], cwd=servers.ROOT, check=True)
        until = time.monotonic() + LEARN_SECONDS
        while not set(names) <= {adapter["name"] for adapter in self.call("GET", "/v1/adapters")["data"]}:
            if time.monotonic() > until:
                raise RuntimeError(f"the server did not learn of {names} within {LEARN_SECONDS} s")
            time.sleep(0.05)


def make_adapters(roots: Path, n_rounds: int, *, each: int) -> tuple[list[str], list[bytes], list[str]]:
    """Below `roots`, for all rounds: (two names for MOVED, archives to upload, names of cold ones).

    No two have the same bytes, nor those of the demo's, or a cold one might be at hand already.
    """
    n = n_rounds * each
    names = adapters.make_copies(3 + 2 * n, roots)[1:]  # the first is what the others are scaled from
    uploads = [adapters.archive(roots / name) for name in names[2 : 2 + n]]
    return names[:2], uploads, names[2 + n :]
