from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from adapters.errors import NameTaken
from server.disconnect import ClientDisconnected
from server.error_handlers import install
from server.errors import ApiError
from server.storage.errors import DatabaseUnavailable


class Body(BaseModel):
    model: str


def broken_app() -> FastAPI:
    app = FastAPI()
    install(app)

    @app.get("/v1/models")
    async def models() -> None: ...

    @app.post("/v1/models")
    async def add_model() -> None: ...

    @app.post("/v1/chat/completions")
    async def chat(body: Body) -> None:
        raise ApiError(429, "later", code="rate_limit_exceeded", headers={"Retry-After": "7"})

    @app.post("/v1/messages")
    async def messages(body: Body) -> None:
        raise ApiError(401, "who?")

    @app.post("/v1/taken")
    async def taken() -> None:
        raise NameTaken("'legal' is taken")

    @app.post("/v1/away")
    async def away() -> None:
        raise DatabaseUnavailable("connection refused")

    @app.post("/v1/gone")
    async def gone() -> None:
        raise ClientDisconnected

    @app.post("/v1/half")
    async def half() -> None:
        raise ApiError(400, "you sent '\ud800'")

    @app.post("/v1/crash")
    async def crash() -> None:
        raise RuntimeError("hunter2")

    @app.post("/v1/stream")
    async def stream() -> StreamingResponse:
        async def frames() -> AsyncGenerator[bytes, None]:
            yield b"data: 1\n\n"
            raise RuntimeError("engine gone")

        return StreamingResponse(frames())

    return app


@pytest.fixture
def client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=broken_app()), base_url="http://test")


async def test_an_api_error_keeps_status_headers_and_shape(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json={"model": "m"})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


async def test_a_domain_error_is_looked_up(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/taken")
    assert answer.status_code == 409
    assert answer.json()["error"] == {
        "message": "'legal' is taken",
        "type": "invalid_request_error",
        "param": "name",
        "code": "name_taken",
    }


async def test_messages_are_answered_in_anthropics_shape(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/messages", json={"model": "m"})
    assert answer.status_code == 401
    assert answer.json()["error"] == {"type": "authentication_error", "message": "who?"}
    assert (await client.post("/v1/messages", json={})).json()["type"] == "error"


async def test_a_bad_body_is_400_with_the_field(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json={})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "model"


async def test_a_body_that_is_not_json_says_so(client: httpx2.AsyncClient) -> None:
    answer = await client.post(
        "/v1/chat/completions", content=b'{"model": ', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert "not JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "suggested"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat", "/v1/chat/completions"),
        ("/models", "/v1/models"),
    ],
)
async def test_an_unknown_url_is_named_and_the_right_one_too(
    client: httpx2.AsyncClient, path: str, suggested: str
) -> None:
    answer = await client.post(path)
    message = answer.json()["error"]["message"]
    assert answer.status_code == 404
    assert f"POST {path}" in message
    assert f"did you mean {suggested}?" in message


async def test_a_far_off_url_gets_examples(client: httpx2.AsyncClient) -> None:
    assert "POST /v1/chat/completions" in (await client.get("/nonsense")).json()["error"]["message"]


async def test_a_wrong_method_names_all_right_ones(client: httpx2.AsyncClient) -> None:
    answer = await client.delete("/v1/models")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"
    assert "use GET, POST" in answer.json()["error"]["message"]


async def test_a_client_that_left_is_no_failure_of_ours(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.post("/v1/gone")).status_code == 499
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_crash_is_500_without_and_logged_with_its_traceback(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await client.post("/v1/crash")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json()["error"]["code"] == "internal_error"
    assert "hunter2" in caplog.text


async def test_a_database_that_is_away_is_one_line_of_the_log_each_time(
    client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await client.post("/v1/away")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "connection refused" not in answer.text
    assert [(one.getMessage(), one.exc_info) for one in caplog.records if one.name == "server.error_handlers"] == [
        ("POST /v1/away: connection refused", None)
    ]


async def test_a_crash_within_a_stream_breaks_the_connection(client: httpx2.AsyncClient) -> None:
    with pytest.raises(RuntimeError, match="engine gone"):
        await client.post("/v1/stream")


async def test_text_without_utf_8_is_told_all_the_same() -> None:
    transport = httpx2.ASGITransport(app=broken_app())
    async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.post("/v1/half")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "you sent '?'"
