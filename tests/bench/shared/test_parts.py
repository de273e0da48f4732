"""What each part asks for, and which samples it takes; the servers are scripts, and no time passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.clients import Job, Result
from bench.servers import Server
from bench.shared import parts
from bench.shared.parts import CHANGES, KEYS, LOADS, Round
from bench.shared.places import database_of, embedded
from bench.shared.running import Running
from server.storage.keys import Keys

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SPIN_SECONDS", 0)


def running(folder: Path, answer: Answer) -> Running:
    unused: Any = None
    server = Server(name="ours", port=1, process=unused, ready_seconds=0, log=folder / "log")
    http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(answer))
    return Running(place=embedded(), server=server, folder=folder, api=unused, http=http, versions=("a@1", "a@2"))


@pytest.fixture
def asked() -> list[tuple[str, Any]]:
    return []


@pytest.fixture
def one(tmp_path: Path, asked: list[tuple[str, Any]]) -> Iterator[Running]:
    def answer(request: httpx.Request) -> httpx.Response:
        is_json = request.headers["content-type"] == "application/json"
        asked.append((request.url.path, json.loads(request.content) if is_json else request.content))
        return httpx.Response(200, json={})

    made = running(tmp_path, answer)
    yield made
    made.http.close()


def test_changes_go_back_and_forth(one: Running, asked: list[tuple[str, Any]]) -> None:
    parts.changes(one, Round(number=0))
    moved = [body["version"] for path, body in asked if path == "/v1/adapters/moved/alias"]
    assert moved == [["a@1", "a@2"][number % 2] for number in range(CHANGES)]  # to where it is would change nothing
    said = [body["instructions"] for path, body in asked if path == "/v1/assistants/changed"]
    assert len(set(said)) == CHANGES
    assert {name: len(values) for name, values in one.samples.values.items()} == {
        "alias moved": CHANGES,
        "assistant changed": CHANGES,
    }


def test_an_upload_is_asked_at_once_under_a_name_of_its_own(one: Running, asked: list[tuple[str, Any]]) -> None:
    for number in range(2):
        parts.uploaded(one, Round(number=number, uploads=[b"first", b"second"]))
    assert [path for path, _ in asked] == ["/v1/adapters", "/v1/chat/completions"] * 4
    names = [body["model"] for path, body in asked if path.endswith("completions")]
    assert len(set(names)) == 4
    assert all(name.encode() in form for name, (_, form) in zip(names, asked[::2], strict=True))
    stored, answered = one.samples.values.values()
    assert all(whole >= part for part, whole in zip(stored, answered, strict=True))


def test_cold_adapters_are_asked_once_each(one: Running, asked: list[tuple[str, Any]]) -> None:
    parts.cold(one, Round(number=0, cold=["cold-0", "cold-1"]))
    assert [body["model"] for _, body in asked] == ["cold-0", "cold-1"]
    assert [len(values) for values in one.samples.values.values()] == [2]


def test_what_is_refused_is_no_sample(tmp_path: Path) -> None:
    refusing = running(tmp_path, lambda _: httpx.Response(503, text="not now"))
    with pytest.raises(RuntimeError, match="503: not now"):
        parts.changes(refusing, Round(number=0))
    refusing.http.close()


def test_every_load_is_asked_in_every_round_and_no_prompt_comes_twice(one: Running) -> None:
    jobs: list[Job] = []

    class Script:
        def run(self, job: Job) -> Result:
            jobs.append(job)
            n = sum(map(len, job.prompts))
            return Result(wall=2.0, tokens=n * job.max_tokens, requests=n, first_tokens=[0.5] * n)

    script: Any = Script()
    for number in range(-1, 2):
        parts.chatting(script)(one, Round(number=number))
    assert len(jobs) == 3 * len(LOADS)
    assert [job.fields for job in jobs[: len(LOADS)]] == [load.fields for load in LOADS.values()]
    prompts = [prompt for job in jobs for client in job.prompts for prompt in client]
    assert len(set(prompts)) == len(prompts)  # none is answered from what was computed for another
    assert one.samples.units == {
        unit: kind for name in LOADS for unit, kind in ((name, "tokens/s"), (f"{name}: first token", "ms"))
    }


def test_keys_open_what_nobody_enters_without_one(tmp_path: Path) -> None:
    with closing(database_of(embedded(), tmp_path / "data")) as database:
        database.migrate()
        table = Keys(database)
        looks: list[int] = []

        def answer(request: httpx.Request) -> httpx.Response:
            if len(looks) % 2:  # what others have made is found at every second look
                table.refresh()
            secret = request.headers.get("authorization", "").removeprefix("Bearer ")
            is_open = not table.any_exist() or table.find(secret) is not None
            looks.append(200 if is_open else 401)
            return httpx.Response(looks[-1], json={})

        guarded = running(tmp_path, answer)
        parts.keys(guarded, Round(number=0))
        parts.keys(guarded, Round(number=1))
        guarded.http.close()
        table.refresh()
        assert len(table.list()) == 1 + 2 * KEYS
        assert looks.count(401) >= KEYS  # a key was waited for, and not taken to open what was open
    made, opened = guarded.samples.values.values()
    assert len(made) == len(opened) == 2 * KEYS
    assert all(whole >= part for part, whole in zip(made, opened, strict=True))
