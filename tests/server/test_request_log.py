from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, Request
from prometheus_client import generate_latest
from starlette.responses import StreamingResponse

from server.error_handlers import install
from server.errors import ApiError
from server.metrics import Metrics
from server.request_log import ADAPTER_PATHS, FILE_PATHS, BodyLimit, RequestLog, Uploads
from server.settings import Settings


def app(metrics: Metrics | None = None) -> FastAPI:
    app = FastAPI()
    install(app)
    adapters = Uploads(paths=ADAPTER_PATHS, max_bytes=200_000, setting="MANYHATS_MAX_ADAPTER_BYTES")
    files = Uploads(paths=FILE_PATHS, max_bytes=2_000, setting="MANYHATS_MAX_FILE_BYTES")
    app.add_middleware(BodyLimit, max_body_bytes=1000, uploads=(adapters, files))
    app.add_middleware(RequestLog, metrics=metrics)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> dict[str, int]:
        body = await request.body()
        request.state.model = "legal"
        request.state.adapter = "legal@0123456789ab"
        request.state.key_id = "key_1"
        request.state.prompt_tokens = 3
        return {"bytes": len(body)}

    @app.post("/v1/base")
    async def base(request: Request) -> None:
        request.state.model, request.state.adapter = "demo", None

    @app.post("/v1/parsed")
    async def parsed(body: dict[str, str]) -> None: ...

    @app.post("/v1/adapters")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> None:
        raise ApiError(404, "no", code="model_not_found")

    @app.post("/v1/messages")
    async def messages() -> None:
        raise ApiError(401, "no")

    @app.get("/v1/stream")
    async def stream(request: Request) -> StreamingResponse:
        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"1"
            request.state.completion_tokens = 9

        return StreamingResponse(frames())

    @app.get("/health")
    async def health() -> None: ...

    @app.get("/console/main.js")
    async def console() -> None: ...

    @app.get("/v1/crash")
    async def crash() -> None:
        raise RuntimeError("oh")

    return app


def client_of(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test")


@pytest.fixture
def client() -> httpx2.AsyncClient:
    return client_of(app())


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="server.access")
    return caplog


def fields(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    (record,) = [record for record in caplog.records if record.name == "server.access"]
    return record.fields  # type: ignore[attr-defined,no-any-return]  # given as extra


async def test_one_line_tells_all_but_the_query(client: httpx2.AsyncClient, records: pytest.LogCaptureFixture) -> None:
    await client.post("/v1/chat/completions?api_key=mh-secret", content=b"my prompt")
    line = fields(records)
    assert isinstance(line.pop("seconds"), float)
    assert line == {
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "model": "legal",
        "adapter": "legal@0123456789ab",
        "key_id": "key_1",
        "prompt_tokens": 3,
    }


async def test_a_streams_line_comes_at_its_end(client: httpx2.AsyncClient, records: pytest.LogCaptureFixture) -> None:
    await client.get("/v1/stream")
    assert fields(records)["completion_tokens"] == 9


@pytest.mark.parametrize("given", ["my-id_1.2", "A" * 128])
async def test_a_good_request_id_is_kept(client: httpx2.AsyncClient, given: str) -> None:
    answer = await client.get("/health", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a\tb", "A" * 129, "é", "<script>"])
async def test_a_bad_one_is_replaced(client: httpx2.AsyncClient, given: str) -> None:
    answer = await client.get("/health", headers={"X-Request-Id": given.encode()})
    assert len(answer.headers["x-request-id"]) == 32


async def test_errors_carry_the_id_too(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/messages", headers={"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json()["request_id"] == "mine"
    crash = await client.get("/v1/crash", headers={"X-Request-Id": "mine"})
    assert (crash.status_code, crash.headers["x-request-id"]) == (500, "mine")


async def test_probes_and_pages_are_quiet_and_failures_loud(
    client: httpx2.AsyncClient, records: pytest.LogCaptureFixture
) -> None:
    await client.get("/health")
    await client.get("/console/main.js")
    await client.get("/v1/crash")
    levels = [record.levelname for record in records.records if record.name == "server.access"]
    assert levels == ["DEBUG", "DEBUG", "ERROR"]


async def test_requests_are_counted_by_route_and_never_by_url() -> None:
    metrics = Metrics(Settings(model_name="demo"))
    client = client_of(app(metrics))
    await client.post("/v1/chat/completions")
    await client.post("/v1/base")
    for name in ("a", "b/c"):
        await client.get(f"/v1/models/{name}")
    await client.get("/made-up")
    text = generate_latest(metrics.registry).decode()
    for line in (
        'manyhats_requests_total{adapter="legal",endpoint="/v1/chat/completions",status="200"} 1.0',
        'manyhats_requests_total{adapter="demo",endpoint="/v1/base",status="200"} 1.0',
        'manyhats_requests_total{adapter="",endpoint="/v1/models/{name:path}",status="404"} 2.0',
        'manyhats_requests_total{adapter="",endpoint="unknown",status="404"} 1.0',
        'manyhats_errors_total{adapter="",type="model_not_found"} 2.0',
    ):
        assert line in text
    assert "made-up" not in text


async def in_pieces(n: int) -> AsyncIterator[bytes]:
    for _ in range(n):
        yield b"x" * 100


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/parsed"])
async def test_a_large_body_is_413_with_and_without_its_length(client: httpx2.AsyncClient, path: str) -> None:
    json_type = {"content-type": "application/json"}
    for answer in (
        await client.post(path, content=b"x" * 1001, headers=json_type),
        await client.post(path, content=in_pieces(11), headers=json_type),
    ):
        assert answer.status_code == 413
        assert "1,000 bytes" in answer.json()["error"]["message"]
        assert answer.json()["error"]["code"] == "request_too_large"
    whole = await client.post("/v1/chat/completions", content=in_pieces(10))
    assert whole.json() == {"bytes": 1000}


async def test_uploads_have_a_limit_of_their_own(client: httpx2.AsyncClient) -> None:
    multipart = {"content-type": "multipart/form-data; boundary=x"}
    assert (await client.post("/v1/adapters", content=b"x" * 200_000, headers=multipart)).status_code == 200
    assert (await client.post("/v1/adapters", content=b"x" * 300_000, headers=multipart)).status_code == 413
    assert (await client.post("/v1/adapters", content=b"x" * 1001)).status_code == 413
    too_large = await client.post("/v1/files", content=b"x" * 100_000, headers=multipart)
    assert (too_large.status_code, "MANYHATS_MAX_FILE_BYTES" in too_large.text) == (413, True)
    # what is no upload is read as a whole
    for path in ("/v1/chat/completions", "/v1/adapters/legal/alias", "/v1/files/file-1"):
        assert (await client.post(path, content=b"x" * 1001, headers=multipart)).status_code == 413
    assert (await client.post("/v1/adapters/legal/versions", content=b"x" * 1001, headers=multipart)).status_code == 404


async def test_too_large_in_anthropics_shape(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/messages", content=b"x" * 1001)
    assert answer.json()["error"]["type"] == "request_too_large"
