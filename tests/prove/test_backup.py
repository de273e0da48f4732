"""A backup of the served demo under load, restored to an empty machine: what it knew and how it answers are the same.

While clients chat, upload, attach, delete and register, `manyhats backup` runs beside the server. What was there before
the load is asked for on both servers: passages with their scores, and greedy answers in float32, word for word.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from bench.adapters import make_copies
from bench.servers import ROOT, Server, ours

pytestmark = [pytest.mark.prove, pytest.mark.engine]

MODELS = ("demo", "pirate", "json", "demo-guide", "clerk")
QUESTIONS = ("What is bread made of?", "How much is the Brisa?", "When is the rent due?")
TEXTS = (
    "The rent is due on the first of the month.\n",
    "A tenant gives three months of notice, in writing.\n",
    "O aluguel vence no primeiro dia do mês.\n",
)
STEPS = 12  # of the load before the backup begins, and again after it has ended


@dataclass
class Load:
    """What the clients of the load have done, and what went wrong with them."""

    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    wrong: list[str] = field(default_factory=list)

    def wait(self, steps: int) -> None:
        for _ in range(steps):
            assert self.done.acquire(timeout=120), self.wrong


def test_a_backup_under_load_restored_to_an_empty_machine(tmp_path: Path) -> None:
    copies = [tmp_path / "adapters" / name for name in make_copies(200, tmp_path / "adapters")]
    first = ours(settings(tmp_path), folder=tmp_path / "first")
    try:
        with connected(first) as api:
            store_id = prepared(first, api, copies.pop())
            before = knowledge(first, api, store_id)
            with load(first, api, copies) as going:
                going.wait(STEPS)
                began = time.monotonic()
                made = manyhats("backup", str(tmp_path / "backup.tar"), data_dir=tmp_path / "first" / "data")
                took = time.monotonic() - began
                going.wait(STEPS)
            assert not going.wrong
            assert knowledge(first, api, store_id) == before
    finally:
        first.stop()

    assert manyhats("backup", "--verify", str(tmp_path / "backup.tar"), data_dir=tmp_path / "nothing") == made
    data_dir = tmp_path / "second" / "data"
    assert manyhats("restore", str(tmp_path / "backup.tar"), data_dir=data_dir) == made
    again = manyhats("backup", str(tmp_path / "again"), data_dir=data_dir)
    assert (again["rows"], again["missing"], again["damaged"]) == (made["rows"], [], [])
    assert tables_of(tmp_path / "again") == tables_of(tmp_path / "backup.tar")  # counts and digests
    print(f"backup under load: {took:.1f} s, {made['rows']} rows, {made['files']} files, {made['bytes'] / 1e6:.1f} MB")

    second = ours(settings(tmp_path), folder=tmp_path / "second")
    try:
        with connected(second) as api:
            after = knowledge(second, api, store_id)
    finally:
        second.stop()
    assert after["found"] == before["found"]
    assert after["answers"] == before["answers"]
    print(
        f"{sum(map(len, before['found'].values()))} passages and {len(before['answers'])} greedy answers are the same"
    )


def prepared(server: Server, api: openai.OpenAI, adapter: Path) -> str:
    """A store with the texts, and an adapter `clerk`; returns the store's id when all can be searched."""
    server.call("POST", "/v1/adapters", {"name": "clerk", "source": str(adapter)})
    store = api.vector_stores.create(name="handbook")
    for number, text in enumerate(TEXTS):
        file = api.files.create(file=(f"{number}.txt", io.BytesIO(text.encode())), purpose="assistants")
        attached = api.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id, poll_interval_ms=100)
        assert attached.status == "completed"
    return store.id


def knowledge(server: Server, api: openai.OpenAI, store_id: str) -> dict[str, Any]:
    """What searches find, with scores, and what each model answers greedily; nobody else asks meanwhile."""
    found = {}
    for question in QUESTIONS:
        page = server.call("POST", f"/v1/vector_stores/{store_id}/search", {"query": question, "max_num_results": 5})
        found[question] = [(one["file_id"], one["score"], one["content"]) for one in page["data"]]
        assert found[question]
    answers = {}
    for model in MODELS:
        for question in QUESTIONS:
            answer = api.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=40
            )
            answers[f"{model}: {question}"] = answer.choices[0].message.content
    assert len(set(answers.values())) > len(QUESTIONS)  # the models do differ
    return {"found": found, "answers": answers}


@contextmanager
def load(server: Server, api: openai.OpenAI, copies: list[Path]) -> Iterator[Load]:
    """Clients that chat, upload, attach, delete, register and remove, step after step, until the block ends."""
    stop, going = threading.Event(), Load()
    store = api.vector_stores.create(name="noise").id
    kept: list[str] = []

    def files() -> None:
        text = f"noise {time.monotonic_ns()}".encode()
        file = api.files.create(file=("noise.txt", io.BytesIO(text)), purpose="assistants")
        api.vector_stores.files.create(file_id=file.id, vector_store_id=store)
        kept.append(file.id)
        if len(kept) > 4:
            api.files.delete(kept.pop(0))

    def adapters() -> None:
        folder = copies.pop()
        server.call("POST", "/v1/adapters", {"name": folder.name, "source": str(folder)})
        server.call("DELETE", f"/v1/adapters/{folder.name}")

    def chat() -> None:
        asked = {"role": "user", "content": "What is bread made of?"}
        body = {"model": "pirate", "messages": [asked], "max_tokens": 16}
        server.call("POST", "/v1/chat/completions", body, timeout=120)

    def run(step: Callable[[], None]) -> None:
        while not stop.is_set():
            try:
                step()
            except Exception as error:
                going.wrong.append(repr(error))
                return
            going.done.release()

    threads = [threading.Thread(target=run, args=(step,)) for step in (files, adapters, chat)]
    for thread in threads:
        thread.start()
    try:
        yield going
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)


@contextmanager
def connected(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0) as api:
        yield api


def manyhats(*words: str, data_dir: Path) -> Any:
    """What the command says as JSON."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("MANYHATS_")}
    done = subprocess.run(
        [sys.executable, "-m", "server", *words, "--json"],
        cwd=ROOT,
        env={**ours, "MANYHATS_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "path": ""}


def tables_of(path: Path) -> Any:
    """What a backup's manifest says of its tables."""
    from server.storage.backup.archive import reading
    from server.storage.backup.checking import manifest_of

    with reading(path) as archive:
        return manifest_of(archive).tables


def settings(folder: Path) -> dict[str, str]:
    return {"MANYHATS_ADAPTER_ROOTS": str(folder / "adapters"), "MANYHATS_VLLM_ARGS": "--dtype float32"}
