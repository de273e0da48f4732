"""What is measured, part by part: each part takes one server in one round, and adds to its samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import httpx

from bench import throughput
from bench.clients import SPIN_SECONDS, Generator
from bench.retrieval import client
from bench.shared.places import database_of
from bench.shared.running import ASSISTANT, MODEL, MOVED, STORE, Running
from bench.shared.texts import documents
from bench.throughput import Load
from server.storage.keys import Keys

SOURCES = {"retrieval": {"vector_store_ids": [STORE], "max_num_results": 4}}
LOADS = {
    "chat, 1 client": Load(clients=1, requests=8, max_tokens=32),
    "chat, 8 clients": Load(clients=8, requests=3, max_tokens=32),
    "chat with 4 sources, 1 client": Load(clients=1, requests=6, max_tokens=32, fields=SOURCES),
}
ADAPTERS = 3  # uploaded, and as many cold ones asked, in a round
INGESTED_FILES, INGESTED_SENTENCES = 24, 48
SEARCHES = 30
CHANGES = 15  # of each kind
KEYS = 5
OPEN_SECONDS = 30  # until a server lets a new key in; it is to take less than one
LOOK_SECONDS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round has that no other has; the same for both servers."""

    number: int  # from 0; the one to warm up is -1
    uploads: Sequence[bytes] = ()  # archives
    cold: Sequence[str] = ()  # names of adapters that were never loaded


Part = Callable[[Running, Round], None]


def chatting(generator: Generator) -> Part:
    """Streams under each load."""

    def chat(running: Running, this: Round) -> None:
        for place, (name, load) in enumerate(LOADS.items(), start=1):
            first_round = 1000 * place + this.number + 1  # the one to warm up is -1
            (figures,) = throughput.measure(generator, [running.server], MODEL, load, rounds=1, first_round=first_round)
            running.samples.rate(name, "tokens/s", figures.rate)
            running.samples.seconds(f"{name}: first token", figures.first_tokens)

    return chat


def uploaded(running: Running, this: Round) -> None:
    """From an archive to the first answer."""
    for number, content in enumerate(this.uploads):
        name = f"uploaded-{this.number}-{number}"
        started = time.perf_counter()
        running.call("POST", "/v1/adapters", data={"name": name}, files={"file": ("adapter.zip", content)})
        there = time.perf_counter()
        _ask(running, name)
        running.samples.seconds("adapter uploaded", [there - started])
        running.samples.seconds("adapter uploaded, to its first answer", [time.perf_counter() - started])
        time.sleep(SPIN_SECONDS)  # what follows a first load, which nobody waits for, and the engine's spinning


def cold(running: Running, this: Round) -> None:
    """The first answer of adapters that this server never had in its hands: from the folder, or from the bucket."""
    for name in this.cold:
        started = time.perf_counter()
        _ask(running, name)
        running.samples.seconds("cold adapter, to its first answer", [time.perf_counter() - started])
        time.sleep(SPIN_SECONDS)


def ingestion(running: Running, this: Round) -> None:
    """Files into a new store, until they are found."""
    texts = documents(INGESTED_FILES, sentences=INGESTED_SENTENCES, seed=1000 + this.number)
    started = time.perf_counter()
    ids = list(client.upload(running.api, texts).values())
    running.samples.rate("a file uploaded, 8 at once", "ms", 1e3 * (time.perf_counter() - started) / len(ids))
    store, seconds = client.ingest(running.api, f"ingested-{this.number}", ids)
    n_chunks = sum(len(texts) for texts in client.chunk_texts(running.api, store.id, ids).values())
    running.samples.rate("files read and embedded", "chunks/s", n_chunks / seconds)


def search(running: Running, this: Round) -> None:
    """Questions that were not asked before, one at a time."""
    searches = client.Searches(running.server.port)
    for place, ranker in enumerate(("hybrid", "lexical")):
        load = Load(clients=1, requests=SEARCHES, max_tokens=1)
        (asked,) = throughput.prompts(load, 1000 + 2 * this.number + place)
        seconds = [searches.seconds(running.store_id, question, ranker, 10) for question in asked]
        running.samples.seconds(f"search, {ranker}", seconds)


def changes(running: Running, this: Round) -> None:
    """What an admin changes, one after the other."""
    aliases, assistants = [], []
    for number in range(CHANGES):
        started = time.perf_counter()
        running.call("POST", f"/v1/adapters/{MOVED}/alias", {"version": running.versions[number % 2]})
        aliases.append(time.perf_counter() - started)
        started = time.perf_counter()
        running.call("POST", f"/v1/assistants/{ASSISTANT}", {"instructions": f"Answer {this.number}-{number}."})
        assistants.append(time.perf_counter() - started)
    running.samples.seconds("alias moved", aliases)
    running.samples.seconds("assistant changed", assistants)


def keys(running: Running, this: Round) -> None:
    """Keys made beside the server, as `manyhats keys create` does, and when they open it. The last of all parts.

    Afterwards nobody gets in without one.
    """
    with closing(database_of(running.place, running.folder / "data")) as database:
        table = Keys(database)
        if not table.any_exist():
            _, secret = table.create("first", role="admin")
            _until_open(running, secret)
            for _ in _looks():
                if running.http.get("/v1/models").status_code == httpx.codes.UNAUTHORIZED:
                    break
        for number in range(KEYS):
            started = time.perf_counter()
            _, secret = table.create(f"key-{this.number}-{number}")
            made = time.perf_counter()
            _until_open(running, secret)
            running.samples.seconds("key made", [made - started])
            running.samples.seconds("key made, until it opens", [time.perf_counter() - started])


def _ask(running: Running, model: str) -> None:
    said = [{"role": "user", "content": "Who are you?"}]
    running.call("POST", "/v1/chat/completions", {"model": model, "messages": said, "max_tokens": 1})


def _until_open(running: Running, secret: str) -> None:
    for _ in _looks():
        answer = running.http.get("/v1/models", headers={"Authorization": f"Bearer {secret}"})
        if answer.status_code == httpx.codes.OK:
            return


def _looks() -> Iterator[None]:
    """Again and again, for a while; raises RuntimeError when that is over."""
    until = time.perf_counter() + OPEN_SECONDS
    while time.perf_counter() < until:
        yield
        time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"the server had not heard of a key after {OPEN_SECONDS} s")
