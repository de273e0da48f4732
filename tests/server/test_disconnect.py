"""Under a real uvicorn with raw sockets: whether a lost client is noticed is a matter between the two."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.disconnect import ClientDisconnected, StreamedAnswer, while_connected
from server.error_handlers import install
from server.errors import ApiError
from server.request_log import BodyLimit, RequestLog

NOTICED_SECONDS = 0.5
Handler = Callable[[Request], Awaitable[Response]]


class Generation:
    """A generation that never ends by itself and remembers when it was stopped."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()
        self.forever = asyncio.Event()

    async def answer(self) -> str:
        self.started.set()
        try:
            await self.forever.wait()
        finally:
            self.stopped.set()
        return "done"

    async def frames(self, n_first: int, frame: bytes = b"data: 1\n\n") -> AsyncGenerator[bytes, None]:
        self.started.set()
        try:
            for _ in range(n_first):
                yield frame
            await self.forever.wait()
        finally:
            await asyncio.sleep(0)  # an abort that is awaited must get through
            self.stopped.set()


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """The port on which uvicorn answers every request with the handler."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        await request.body()
        with contextlib.suppress(ClientDisconnected):
            response = await handler(request)
            await response(scope, receive, send)

    async with listening(app) as port:
        yield port


@contextlib.asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[int]:
    """The port on which uvicorn serves the app."""
    server = ToldServer(uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False))
    serving = asyncio.create_task(server.serve())
    await server.listening.wait()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


class ToldServer(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


async def send_request(port: int, path: str = "/") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    await writer.drain()
    return reader, writer


async def stopped_within(generation: Generation, writer: asyncio.StreamWriter) -> float:
    left = time.perf_counter()
    writer.transport.abort()
    await asyncio.wait_for(generation.stopped.wait(), 10)
    return time.perf_counter() - left


async def test_an_answer_that_is_not_streamed_stops() -> None:
    generation = Generation()

    async def handler(request: Request) -> Response:
        return Response(await while_connected(request, generation.answer()))

    async with served(handler) as port:
        _, writer = await send_request(port)
        await generation.started.wait()
        assert await stopped_within(generation, writer) < NOTICED_SECONDS


async def test_a_stream_stops_before_its_first_token() -> None:
    generation = Generation()

    async def handler(request: Request) -> Response:
        return await StreamedAnswer.start(request, generation.frames(0))

    async with served(handler) as port:
        _, writer = await send_request(port)
        await generation.started.wait()
        assert await stopped_within(generation, writer) < NOTICED_SECONDS


async def test_a_silent_stream_stops_after_its_first_token() -> None:
    generation = Generation()

    async def handler(request: Request) -> Response:
        return await StreamedAnswer.start(request, generation.frames(2))

    async with served(handler) as port:
        reader, writer = await send_request(port)
        await reader.readuntil(b"data: 1\n\n")
        assert await stopped_within(generation, writer) < NOTICED_SECONDS


async def test_a_stream_that_the_client_does_not_read_stops() -> None:
    generation = Generation()

    frames = generation.frames(10_000, b"x" * 65_536)  # held here, so that no garbage collector closes it for us

    async def handler(request: Request) -> Response:
        return await StreamedAnswer.start(request, frames)

    async with served(handler) as port:
        reader, writer = await send_request(port)
        await reader.readuntil(b"xxxx")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport reads
        assert await stopped_within(generation, writer) < NOTICED_SECONDS


@pytest.mark.parametrize("path", ["/whole", "/stream"])
async def test_through_all_layers_a_lost_client_is_499_in_the_log_and_no_error(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    generation = Generation()
    app = FastAPI()
    install(app)
    app.add_middleware(BodyLimit, max_body_bytes=100)
    app.add_middleware(RequestLog)

    @app.post("/whole")
    async def whole(request: Request) -> Response:
        await request.json()
        return Response(await while_connected(request, generation.answer()))

    @app.post("/stream")
    async def stream(request: Request) -> Response:
        await request.json()
        return await StreamedAnswer.start(request, generation.frames(1))

    async with listening(app) as port:
        reader, writer = await send_request(port, path)
        await generation.started.wait()
        if path == "/stream":
            await reader.readuntil(b"data: 1\n\n")
        assert await stopped_within(generation, writer) < NOTICED_SECONDS
    (line,) = [record for record in caplog.records if record.name == "server.access"]
    assert line.fields["status"] == 499  # type: ignore[attr-defined]  # given as extra
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_stays_gets_everything_and_may_ask_again() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"

    async def handler(request: Request) -> Response:
        return await StreamedAnswer.start(request, frames(), headers={"X-Limit": "9"})

    async with served(handler) as port:
        reader, writer = await send_request(port)
        for _ in range(2):  # the same connection
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            assert b"text/event-stream" in head
            assert b"x-limit: 9" in head.lower()
            assert b"data: 1\n\n\r\n9\r\ndata: 2\n\n" in await reader.readuntil(b"\r\n0\r\n\r\n")
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


async def test_a_failure_before_the_first_frame_keeps_its_status() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        raise ApiError(429, "full")
        yield b""

    with pytest.raises(ApiError, match="full"):
        await StreamedAnswer.start(staying_client(), frames())


async def test_a_failure_between_frames_is_told_in_the_stream() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        yield b"data: 1\n\n"
        raise ApiError(503, "the engine restarts", code="engine_down")

    request = staying_client()
    answer = await StreamedAnswer.start(request, frames())
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await answer(request.scope, request.receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"] + ["http.response.body"] * 3
    assert json.loads(sent[2]["body"][6:])["error"]["code"] == "engine_down"
    assert sent[3] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_an_empty_stream_is_an_empty_answer() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        return
        yield b""

    assert (await StreamedAnswer.start(staying_client(), frames())).first is None


async def test_the_result_and_its_exceptions_come_through() -> None:
    async def good() -> int:
        return 7

    async def bad() -> int:
        raise KeyError("x")

    assert await while_connected(staying_client(), good()) == 7
    with pytest.raises(KeyError):
        await while_connected(staying_client(), bad())


async def test_cancelled_from_outside_is_not_a_lost_client() -> None:
    generation = Generation()
    task = asyncio.create_task(while_connected(staying_client(), generation.answer()))
    await generation.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert generation.stopped.is_set()


async def test_a_result_that_outlives_the_cancellation_is_kept() -> None:
    hung_up = asyncio.Event()

    async def stubborn() -> str:
        try:
            hung_up.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    async def leaves() -> dict[str, str]:
        await hung_up.wait()
        return {"type": "http.disconnect"}

    assert await while_connected(Request({"type": "http"}, leaves), stubborn()) == "done"
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # a test runs in a task


def staying_client() -> Request:
    async def silence() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return Request({"type": "http"}, silence)
