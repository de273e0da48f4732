"""An ASGI application called without a server: a request goes in, the start of the answer and its bytes come out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from deploy.ray.messages import Request, Start

logger = logging.getLogger(__name__)

AHEAD = 16  # parts of an answer that the application may be ahead of its reader
END_SECONDS = 10.0  # for an application to put things away whose client has gone


async def call(app: ASGIApp, request: Request, body: AsyncIterator[bytes]) -> AsyncGenerator[Start | bytes, None]:
    """What the application answers: a Start, then bytes, each as soon as it is sent.

    Closing or cancelling it is a client that goes away. Raises what the application raises before it has ended its
    answer.
    """
    sent: asyncio.Queue[Message | None] = asyncio.Queue(AHEAD)
    gone = asyncio.Event()
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if not is_read:
            part = await anext(body, None)
            is_read = part is None
            return {"type": "http.request", "body": part or b"", "more_body": part is not None}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if not gone.is_set():  # as ASGI servers do: what is sent to nobody is dropped
            await sent.put(message)

    async def run() -> None:
        try:
            await app(_scope(request), receive, send)
        finally:
            if not gone.is_set():
                await sent.put(None)

    running = asyncio.create_task(run())
    try:
        ended = False
        while not ended and (message := await sent.get()) is not None:
            if message["type"] == "http.response.start":
                yield Start(status=message["status"], headers=tuple(message.get("headers", ())))
            elif message["type"] == "http.response.body":
                if message.get("body"):
                    yield message["body"]
                ended = not message.get("more_body", False)
        if not ended:
            await running  # raises why
            raise RuntimeError("the application ended without an answer")
        # what it does after its answer (log line, counters) is part of the call
        while not running.done() and await sent.get() is not None:
            pass
    finally:
        gone.set()
        await _end(running, sent)


async def _end(running: asyncio.Task[None], sent: asyncio.Queue[Message | None]) -> None:
    while not sent.empty():  # whoever waits for room in the queue goes on
        sent.get_nowait()
    _, late = await asyncio.wait({running}, timeout=END_SECONDS)
    if late:
        running.cancel()
        await asyncio.wait({running})
    if not running.cancelled() and (error := running.exception()) is not None:
        logger.debug("the application raised after its answer", exc_info=error)


def _scope(request: Request) -> Scope:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": "",
        "headers": list(request.headers),
        "client": request.client,
        "server": request.server,
        "state": {},
    }
    return scope
