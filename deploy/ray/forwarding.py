"""The ingress' application: reads a request, has a replica answer it, and passes on what comes as it comes.

A replica that dies before the first byte has left nothing with the client: a request that may be repeated goes to
another one. After it, the stream says in its own dialect that it broke off.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request as Incoming
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.ray.messages import ReplicaLost, ReplicasFull, Request, Start
from deploy.ray.versions import GENERATES
from server.disconnect import ClientDisconnected, while_connected
from server.error_handlers import error_response, is_anthropic
from server.errors import ApiError, Dialect, sse_error
from server.request_log import ADAPTER_PATHS, FILE_PATHS, BodyLimit, Uploads
from server.settings import Settings
from server.storage.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

ATTEMPTS = 3
PART_BYTES = 1024**2  # of bodies that are larger, each part is sent by reference
READY_SECONDS = 2.0  # for a replica to say that it is ready
# asking twice for these changes nothing but the machine's load; a response that is stored is stored by its last maker
REPEATABLE = GENERATES | {"/v1/messages/count_tokens", "/v1/embeddings", "/tokenize", "/v1/tokenize"}
KEPT_OF_METRICS = frozenset({b"content-type", b"www-authenticate"})  # not their length
SEQUENCE_NUMBER = re.compile(rb'"sequence_number": ?(\d+)')


class Replicas(Protocol):
    """All replicas, seen as one."""

    def answer(self, request: Request, version: str) -> AsyncGenerator[Start | bytes, None]:
        """One replica's answer, from one where the version is resident if possible; closing it ends the work on it.

        Raises ReplicaLost or ReplicasFull.
        """
        ...

    def keep(self, part: bytes) -> Any:
        """A reference to a part of a body, for the replica to fetch."""
        ...

    async def metrics(self, request: Request) -> tuple[Start, bytes]:
        """What `/metrics` says, of all of them together."""
        ...


def create_ingress(settings: Settings, replicas: Replicas, version_of: Callable[[Request], str]) -> ASGIApp:
    """The application; `version_of` says which adapter version a request is about, "" for none.

    It may raise DatabaseUnavailable, which is answered as a replica would.
    """
    for_adapters = Uploads(
        paths=ADAPTER_PATHS, max_bytes=settings.max_adapter_bytes, setting="MANYHATS_MAX_ADAPTER_BYTES"
    )
    for_files = Uploads(paths=FILE_PATHS, max_bytes=settings.max_file_bytes, setting="MANYHATS_MAX_FILE_BYTES")
    # longer than a replica's own patience, so that a replica says what it waited for
    patience = settings.queue_timeout_seconds + settings.request_timeout_seconds
    forwarding = Forwarding(replicas, version_of, start_seconds=patience)
    return BodyLimit(forwarding, max_body_bytes=settings.max_body_bytes, uploads=(for_adapters, for_files))


class Forwarding:
    """Every path but `/health` is a replica's to answer."""

    def __init__(self, replicas: Replicas, version_of: Callable[[Request], str], *, start_seconds: float) -> None:
        """start_seconds: longest time until an answer begins, the wait for a replica included."""
        self._replicas = replicas
        self._version_of = version_of
        self._start_seconds = start_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            request = await self._read(scope, receive)
            response = await self._short_answer(request)
            if response is None:
                await while_connected(Incoming(scope, receive), self._pass_on(request, send))
                return
        except ClientDisconnected:
            return
        except HTTPException as error:  # the body is over its limit
            response = error_response(ApiError(error.status_code, error.detail, code="request_too_large"), scope)
        except (ApiError, DatabaseUnavailable) as error:  # what a request means may not be known any more
            response = error_response(error, scope)
        await response(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> Request:
        body: bytes | tuple[Any, ...] = b""
        parts: list[Any] = []
        unsent = bytearray()
        async for chunk in Incoming(scope, receive).stream():
            unsent += chunk
            if len(unsent) > PART_BYTES:
                parts.append(self._replicas.keep(bytes(unsent)))
                unsent.clear()
        body = bytes(unsent)
        if parts and body:
            parts.append(self._replicas.keep(body))
        client, server = scope.get("client"), scope.get("server")
        return Request(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope.get("raw_path") or scope["path"].encode(),
            query=scope.get("query_string", b""),
            headers=tuple((bytes(name), bytes(value)) for name, value in scope["headers"]),
            scheme=scope.get("scheme", "http"),
            client=tuple(client) if client else None,
            server=tuple(server) if server else None,
            body=tuple(parts) or body,
        )

    async def _short_answer(self, request: Request) -> Response | None:
        """What is not one replica's to answer; None for all the rest."""
        if request.path == "/health" and request.method in ("GET", "HEAD"):
            return JSONResponse({"status": "ok"})
        if request.path == "/metrics" and request.method == "GET":
            start, body = await self._replicas.metrics(request)
            kept = {name.decode(): value.decode() for name, value in start.headers if name in KEPT_OF_METRICS}
            return Response(body, start.status, kept)
        return None

    async def _pass_on(self, request: Request, send: Send) -> None:
        answer, start = await self._started(request)
        last = b""
        try:
            await send({"type": "http.response.start", "status": start.status, "headers": list(start.headers)})
            try:
                async for part in answer:
                    assert isinstance(part, bytes), "an answer starts once"
                    last = part
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            except ReplicaLost:
                logger.warning("the replica of a running answer to %s was lost", request.path)
                if not start.is_event_stream:
                    raise  # the connection breaks off, which a client of one body notices
                await send({"type": "http.response.body", "body": _broken_off(request, last), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await answer.aclose()

    async def _started(self, request: Request) -> tuple[AsyncGenerator[Start | bytes, None], Start]:
        """An answer that has begun, of the first replica that lives so long; ApiError where there is none."""
        version = self._version_of(request)
        is_probe = request.path == "/ready"
        seconds = READY_SECONDS if is_probe else self._start_seconds
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._replicas.answer(request, version)
            try:
                async with asyncio.timeout(seconds):
                    start = await anext(answer)
            except BaseException as error:
                await answer.aclose()
                if isinstance(error, TimeoutError):
                    raise _unavailable("no replica has begun to answer in time", code="no_replica") from None
                if isinstance(error, ReplicasFull):
                    raise _busy() from None
                if not isinstance(error, ReplicaLost):
                    raise
                if attempt == ATTEMPTS or not _may_repeat(request):
                    raise _lost(request) from None
                logger.warning("a replica was lost before its answer to %s; asking another", request.path)
            else:
                assert isinstance(start, Start), "an answer begins with its status"
                return answer, start
        raise AssertionError("the last attempt returns or raises")


def _may_repeat(request: Request) -> bool:
    return request.method in ("GET", "HEAD", "OPTIONS") or (request.method == "POST" and request.path in REPEATABLE)


def _broken_off(request: Request, last: bytes) -> bytes:
    """The frame that ends a stream whose replica has died, after `last`."""
    error = _unavailable("the replica that made this answer has stopped; ask again", code="replica_lost")
    dialect: Dialect = "openai"
    if is_anthropic(request.path):
        dialect = "anthropic"
    elif request.path == "/v1/responses":
        dialect = "responses"
    numbers = SEQUENCE_NUMBER.findall(last)
    # two line ends before it: a part may have ended in the middle of a frame
    return b"\n\n" + sse_error(error, dialect, sequence_number=int(numbers[-1]) + 1 if numbers else 0)


def _lost(request: Request) -> ApiError:
    if _may_repeat(request):
        return _unavailable("the replicas that worked on this request have stopped; ask again", code="replica_lost")
    message = "the replica that worked on this request has stopped; look whether the change was made, then ask again"
    return _unavailable(message, code="replica_lost")


def _unavailable(message: str, *, code: str) -> ApiError:
    return ApiError(503, message, type="server_error", code=code, headers={"Retry-After": "5"})


def _busy() -> ApiError:
    message = "every replica is busy, and too many requests wait already; try again in 5 s"
    return ApiError(429, message, type="requests", code="queue_full", headers={"Retry-After": "5"})
