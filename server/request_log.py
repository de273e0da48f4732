"""The outermost layer of a request: its id, its one log line and its count; and the limit on its body.

Pure ASGI, because Starlette's BaseHTTPMiddleware costs a task switch for every frame of a stream.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.error_handlers import CLIENT_GONE, error_response
from server.errors import ApiError
from server.logs import REQUEST_ID
from server.metrics import Metrics

logger = logging.getLogger("server.access")

CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
QUIET_PATHS = frozenset({"/health", "/ready", "/metrics", "/metrics/routing"})  # asked every few seconds by machines
CONSOLE = "/console/"  # two dozen files each time that somebody opens the page
LONGEST_FIELD = 200
MULTIPART_OVERHEAD_BYTES = 64 * 1024
KNOWN_FIELDS = (
    "model",
    "adapter",
    "key_id",
    "prompt_tokens",
    "completion_tokens",
    "sources",
    "search_ms",
    "error_code",
)


class RequestLog:
    """Gives every request an id, echoes it as `X-Request-Id`, logs one line when it has ended, and counts it.

    Routes put what they learn into `request.state`: `model` (as the client wrote it), `adapter` (version id, None for
    the base), `key_id`, `prompt_tokens`, `completion_tokens`; `sources` (how many) and `search_ms` where there were.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics | None = None) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_at = time.perf_counter()
        request_id = _request_id(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        REQUEST_ID.set(request_id)  # never reset: a request has a task of its own, and uvicorn may log after us
        status = 500  # what uvicorn answers when nothing was sent

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, named)
        finally:
            self._end(scope, CLIENT_GONE if state.get("client_gone") else status, time.perf_counter() - started_at)

    def _end(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope["state"]
        if self.metrics is not None:
            route = getattr(scope.get("route"), "path", "unknown")
            error = state.get("error_code") if status >= 400 else None
            adapter = (state["adapter"] or "") if "adapter" in state else None  # None there is the base model
            self.metrics.finished(adapter, route, status, error)
        level = logging.INFO
        if status >= 500:
            level = logging.ERROR
        elif scope["path"] in QUIET_PATHS or scope["path"].startswith(CONSOLE):
            level = logging.DEBUG
        if logger.isEnabledFor(level):
            fields = {"method": scope["method"], "path": _cut(scope["path"]), "status": status, "seconds": seconds}
            logger.log(level, "request", extra={"fields": fields | _learnt(state)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """Paths whose multipart bodies have a limit of their own."""

    paths: re.Pattern[str]
    max_bytes: int  # of what is uploaded; the form around it comes on top
    setting: str  # that allows more


ADAPTER_PATHS = re.compile(r"/v1/adapters(/[^/]+/versions)?")
FILE_PATHS = re.compile(r"/v1/files")


class BodyLimit:
    """413 for a body over the limit, before it is read where its length is told, else as soon as it is over."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, uploads: Sequence[Uploads] = ()) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit, advice = self._limit(scope["path"], headers)
        length = headers.get("content-length", "")
        message = f"the request body is larger than {limit:,} bytes; {advice}"
        if length.isdigit() and int(length) > limit:
            error = ApiError(413, message, code="request_too_large")
            await error_response(error, scope)(scope, receive, send)
            return
        n_bytes = 0

        async def counted() -> Message:
            nonlocal n_bytes
            received = await receive()
            n_bytes += len(received.get("body", b""))
            if n_bytes > limit:
                raise HTTPException(
                    413, message
                )  # of the exceptions only this one comes through FastAPI's body reading
            return received

        await self.app(scope, counted, send)

    def _limit(self, path: str, headers: Headers) -> tuple[int, str]:
        if headers.get("content-type", "").startswith("multipart/form-data"):
            for upload in self.uploads:
                if upload.paths.fullmatch(path):
                    return upload.max_bytes + MULTIPART_OVERHEAD_BYTES, f"raise {upload.setting} to allow more"
        return self.max_body_bytes, "send less, or raise MANYHATS_MAX_BODY_BYTES"


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if CLIENT_ID.fullmatch(given) else uuid.uuid4().hex


def _learnt(state: MutableMapping[str, Any]) -> dict[str, Any]:
    learnt = {name: state[name] for name in KNOWN_FIELDS if state.get(name) is not None}
    if "model" in learnt:
        learnt["model"] = _cut(str(learnt["model"]))  # the client's word, of any length
    return learnt


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_FIELD else f"{text[:LONGEST_FIELD]}…"
