"""A client that goes away stops its generation: before the first token, in the middle, and without streaming.

Starlette notices a lost client only while a streamed answer is being sent. `while_connected` covers the time before
that and answers that are not streamed; `StreamedAnswer` closes its frames however the sending ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from server.errors import Dialect, sse_error, to_api_error

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ClientDisconnected(Exception):
    """The client went away; there is nobody to answer."""


async def while_connected(request: Request, awaitable: Awaitable[T]) -> T:
    """Await it in this task; cancel it and raise ClientDisconnected as soon as the client goes away.

    The request's body must have been read, because what still arrives is dropped. In this task and not in one of its
    own: context variables that the awaitable sets or reads are the request's.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelling = task.cancelling()
    gone = False

    async def listen() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    listener = asyncio.create_task(listen())
    try:
        result = await awaitable
    except asyncio.CancelledError:
        if gone and task.uncancel() <= cancelling:
            raise ClientDisconnected from None
        raise
    finally:
        listener.cancel()
    if gone:  # it ended all the same, or kept the cancellation to itself
        task.uncancel()
    return result


class StreamedAnswer(StreamingResponse):
    """Server-sent events whose first frame is already there, so that earlier failures still had a status line.

    The frames are closed however the sending ends. A failure between two frames is told in the stream.
    """

    def __init__(
        self,
        first: bytes | str | None,
        frames: AsyncGenerator[bytes, None] | AsyncGenerator[str, None],
        *,
        dialect: Dialect = "openai",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(frames, headers=headers, media_type="text/event-stream")
        self.headers.setdefault("Cache-Control", "no-cache")
        self.headers.setdefault("X-Accel-Buffering", "no")  # nginx would otherwise hold frames back
        self.first = first
        self.frames = frames
        self.dialect = dialect

    @classmethod
    async def start(
        cls,
        request: Request,
        frames: AsyncGenerator[bytes, None] | AsyncGenerator[str, None],
        *,
        dialect: Dialect = "openai",
        headers: Mapping[str, str] | None = None,
    ) -> StreamedAnswer:
        """Wait for the first frame while the client is there.

        Raises ClientDisconnected, or whatever the frames raise before the first one.
        """
        first: bytes | str | None
        try:
            first = await while_connected(request, anext(frames))
        except StopAsyncIteration:
            first = None
        except BaseException:
            await frames.aclose()
            raise
        return cls(first, frames, dialect=dialect, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # not Starlette's own way, whose cancel scope would also cancel the clean-up that frames await
            await while_connected(Request(scope, receive), self.stream_response(send))
        except ClientDisconnected:
            scope.setdefault("state", {})["client_gone"] = True
        finally:
            # cut off while sending, the generator still waits at its yield; closing it ends the generation
            await self.frames.aclose()

    async def stream_response(self, send: Send) -> None:
        """Send the status line, every frame, and the end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self.first is not None:
            await send({"type": "http.response.body", "body": _encoded(self.first), "more_body": True})
        try:
            async for frame in self.frames:
                await send({"type": "http.response.body", "body": _encoded(frame), "more_body": True})
        except Exception as error:  # whatever it is: the status line is out, the client must be told
            if to_api_error(error).status >= 500:
                logger.exception("a stream broke off")
            await send({"type": "http.response.body", "body": sse_error(error, self.dialect), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _encoded(frame: bytes | str) -> bytes:
    return frame if isinstance(frame, bytes) else frame.encode()
