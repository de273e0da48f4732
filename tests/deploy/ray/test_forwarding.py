from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2
import openai
import pytest

from deploy.ray.forwarding import ATTEMPTS, PART_BYTES, create_ingress
from deploy.ray.messages import ReplicaLost, ReplicasFull, Request, Start
from server.settings import Settings, load_settings
from server.storage.errors import DatabaseUnavailable

JSON = ((b"content-type", b"application/json"),)
EVENTS = ((b"content-type", b"text/event-stream; charset=utf-8"),)
CHUNK = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'

Answer = Callable[[Request], AsyncGenerator[Start | bytes, None]]


class FakeReplicas:
    """Answers with one script after the other, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Request, str]] = []
        self.closed = asyncio.Event()

    async def answer(self, request: Request, version: str) -> AsyncGenerator[Start | bytes, None]:
        self.asked.append((request, version))
        script = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            async for part in script(request):
                yield part
        finally:
            self.closed.set()

    def keep(self, part: bytes) -> Any:
        return ("kept", part)

    async def metrics(self, request: Request) -> tuple[Start, bytes]:
        return Start(status=200, headers=((b"content-type", b"text/plain"), (b"content-length", b"1"))), b"up 1\n"


async def ok(request: Request) -> AsyncGenerator[Start | bytes, None]:
    yield Start(status=200, headers=JSON)
    yield b'{"ok":true}'


async def lost(request: Request) -> AsyncGenerator[Start | bytes, None]:
    raise ReplicaLost("killed")
    yield b""


async def full(request: Request) -> AsyncGenerator[Start | bytes, None]:
    raise ReplicasFull("full")
    yield b""


async def lost_in_the_middle(request: Request) -> AsyncGenerator[Start | bytes, None]:
    yield Start(status=200, headers=EVENTS)
    yield CHUNK
    raise ReplicaLost("killed")


def client(replicas: FakeReplicas, version: str = "", **settings: str) -> httpx2.AsyncClient:
    app = create_ingress(load_settings({f"MANYHATS_{k}": v for k, v in settings.items()}), replicas, lambda _: version)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test")


async def test_a_request_goes_on_as_it_came_and_its_answer_comes_back():
    replicas = FakeReplicas(ok)
    async with client(replicas, "legal@abc") as http:
        answer = await http.post("/v1/completions?x=1", json={"model": "legal"}, headers={"X-Api-Key": "k"})
    assert answer.json() == {"ok": True}
    ((request, version),) = replicas.asked
    assert version == "legal@abc"
    assert (request.method, request.path, request.query) == ("POST", "/v1/completions", b"x=1")
    assert (b"x-api-key", b"k") in request.headers
    assert json.loads(request.body) == {"model": "legal"}  # type: ignore[arg-type]  # small bodies are bytes


async def test_health_asks_no_replica():
    replicas = FakeReplicas(lost)
    async with client(replicas) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
    assert not replicas.asked


async def test_metrics_are_of_all_replicas():
    async with client(FakeReplicas(lost)) as http:
        answer = await http.get("/metrics")
    assert answer.text == "up 1\n"
    assert answer.headers["content-length"] == "5"


async def test_a_large_body_goes_on_by_reference_in_its_order():
    replicas = FakeReplicas(ok)
    body = b"a" * PART_BYTES + b"b" * PART_BYTES + b"c"

    async def sent() -> AsyncGenerator[bytes, None]:
        for place in range(0, len(body), 65_536):
            yield body[place : place + 65_536]

    async with client(replicas) as http:
        answer = await http.post("/v1/files", content=sent())
    assert answer.status_code == 200
    parts = replicas.asked[0][0].body
    assert isinstance(parts, tuple)
    assert len(parts) > 1
    assert b"".join(part for _, part in parts) == body


async def test_a_body_over_the_limit_reaches_no_replica():
    replicas = FakeReplicas(ok)
    async with client(replicas, MAX_BODY_BYTES="2000") as http:
        told = await http.post("/v1/completions", content=b"x" * 3000)

        async def untold() -> AsyncGenerator[bytes, None]:
            for _ in range(3):
                yield b"x" * 1000

        found = await http.post("/v1/completions", content=untold())
    for answer in (told, found):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
    assert not replicas.asked


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("GET", "/v1/models")]
)
async def test_a_replica_lost_before_its_answer_is_replaced_by_another(method: str, path: str):
    replicas = FakeReplicas(lost, ok)
    async with client(replicas) as http:
        assert (await http.request(method, path)).status_code == 200
    assert len(replicas.asked) == 2


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/files"), ("DELETE", "/v1/files/f"), ("POST", "/v1/adapters")]
)
async def test_a_change_is_never_repeated(method: str, path: str):
    replicas = FakeReplicas(lost, ok)
    async with client(replicas) as http:
        answer = await http.request(method, path)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "replica_lost"
    assert "look whether" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"] == "5"
    assert len(replicas.asked) == 1


async def test_there_is_an_end_to_trying():
    replicas = FakeReplicas(lost)
    async with client(replicas) as http:
        answer = await http.post("/v1/chat/completions", json={})
    assert answer.status_code == 503
    assert len(replicas.asked) == ATTEMPTS


async def test_full_replicas_are_a_429():
    async with client(FakeReplicas(full)) as http:
        answer = await http.post("/v1/chat/completions", json={})
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "queue_full"


@pytest.mark.parametrize(("path", "dialect"), [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic")])
async def test_what_is_not_known_any_more_is_a_503_of_the_ingress(path: str, dialect: str):
    def too_old(request: Request) -> str:
        raise DatabaseUnavailable("the database could not be read for more than 60 s")

    replicas = FakeReplicas(ok)
    app = create_ingress(Settings(), replicas, too_old)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as http:
        answer = await http.post(path, json={"model": "legal"})
        assert (await http.get("/health")).status_code == 200
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    error = answer.json()["error"]
    if dialect == "openai":
        assert (error["type"], error["code"], error["param"]) == ("server_error", "database_unavailable", None)
    else:
        assert (answer.json()["type"], error["type"]) == ("error", "overloaded_error")
    assert not replicas.asked


async def test_no_replica_that_begins_in_time_is_a_503():
    async def silent(request: Request) -> AsyncGenerator[Start | bytes, None]:
        await asyncio.Event().wait()
        yield b""

    replicas = FakeReplicas(silent)
    async with client(replicas, REQUEST_TIMEOUT_SECONDS="0.01", QUEUE_TIMEOUT_SECONDS="0.01") as http:
        answer = await http.post("/v1/chat/completions", json={})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_replica"
    assert replicas.closed.is_set()


async def test_openais_client_is_told_that_a_stream_broke_off():
    http = client(FakeReplicas(lost_in_the_middle))
    ai = openai.AsyncOpenAI(api_key="k", base_url="http://test/v1", http_client=http, max_retries=0)
    stream = await ai.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    with pytest.raises(openai.APIError, match="has stopped"):
        async for _ in stream:
            pass
    await ai.close()


async def test_anthropics_client_is_told_that_a_stream_broke_off():
    async with client(FakeReplicas(lost_in_the_middle)) as http:
        answer = await http.post("/v1/messages", json={})
    event = answer.text.split("\n\n")[-2]
    assert event.lstrip().startswith("event: error\n")
    assert json.loads(event.split("data: ")[1])["type"] == "error"


async def test_a_responses_stream_goes_on_in_its_numbers():
    async def numbered(request: Request) -> AsyncGenerator[Start | bytes, None]:
        yield Start(status=200, headers=EVENTS)
        yield b'event: response.created\ndata: {"type":"response.created","sequence_number":41}\n\n'
        raise ReplicaLost("killed")

    async with client(FakeReplicas(numbered)) as http:
        answer = await http.post("/v1/responses", json={})
    assert json.loads(answer.text.rstrip().split("data: ")[-1])["sequence_number"] == 42


async def test_a_broken_body_that_is_no_stream_breaks_the_connection():
    async def half(request: Request) -> AsyncGenerator[Start | bytes, None]:
        yield Start(status=200, headers=((b"content-type", b"application/pdf"),))
        yield b"half"
        raise ReplicaLost("killed")

    async with client(FakeReplicas(half)) as http:
        with pytest.raises(ReplicaLost):
            await http.get("/v1/files/f/content")


async def test_a_client_that_goes_away_ends_the_work():
    begun, gone = asyncio.Event(), asyncio.Event()

    async def silent(request: Request) -> AsyncGenerator[Start | bytes, None]:
        begun.set()
        await asyncio.Event().wait()
        yield b""

    replicas = FakeReplicas(silent)
    app = create_ingress(Settings(), replicas, lambda _: "")
    read = False

    async def receive() -> dict[str, Any]:
        nonlocal read
        if not read:
            read = True
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there to be answered")

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [], "query_string": b""}
    serving = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]  # an application is a coroutine function
    await begun.wait()
    gone.set()
    await serving
    assert replicas.closed.is_set()
