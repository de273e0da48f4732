"""How exceptions become answers in the app."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.disconnect import ClientDisconnected
from server.errors import STATUS, ApiError, encoded, internal_error, invalid_request, to_api_error
from server.storage.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

CLIENT_GONE = 499  # nginx's status for a client that closed the connection; only logs and metrics ever see it


def install(app: FastAPI) -> None:
    """Answer every exception in the path's dialect. Call it before adding other middleware: the catch-all is innermost,
    so that CORS headers and the request's log line are on its answers too.
    """
    for domain_error in STATUS:
        app.add_exception_handler(domain_error, _answer_error)
    app.add_exception_handler(ApiError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnected, _answer_nobody)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_middleware(CatchAll)


def error_response(error: Exception, scope: Scope) -> Response:
    """The whole answer for an error: Anthropic's shape under `/v1/messages`, OpenAI's elsewhere."""
    answer = to_api_error(error)
    state = scope.setdefault("state", {})
    state["error_code"] = answer.code or answer.type  # for the request's log line and count
    body = answer.anthropic_body(state.get("request_id")) if is_anthropic(scope["path"]) else answer.body()
    return Response(encoded(body), answer.status, answer.headers, media_type="application/json")


def is_anthropic(path: str) -> bool:
    """Whether clients of this path read Anthropic's error shape."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


class CatchAll:
    """Logs what no handler knows, with its traceback, and answers 500 without it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            if started:
                raise  # too late for an answer: the server breaks the connection off, which the client notices
            logger.exception("unhandled error in %s %s", scope["method"], scope["path"])
            await error_response(internal_error(), scope)(scope, receive, send)


async def _answer_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError) and to_api_error(error).status >= 500:
        # the driver's words say it all, and a database that is away may be asked thousands of times
        trace = None if type(error) is DatabaseUnavailable else error
        logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=trace)
    return error_response(error, request.scope)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(invalid_request(error.errors(), located=True), request.scope)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    headers = dict(error.headers or {})
    if error.status_code == 404 and error.detail == HTTPStatus.NOT_FOUND.phrase:
        answer = ApiError(404, f"no such URL: {request.method} {path}{_suggestion(request)}", code="unknown_url")
    elif error.status_code == 405:
        allowed = ", ".join(sorted(_allowed(request)))
        message = f"{request.method} is not possible on {path}; use {allowed}"
        answer = ApiError(405, message, code="method_not_allowed", headers={**headers, "Allow": allowed})
    else:
        kind = "server_error" if error.status_code >= 500 else "invalid_request_error"
        code = "request_too_large" if error.status_code == 413 else None
        answer = ApiError(error.status_code, str(error.detail), type=kind, code=code, headers=headers)
    return error_response(answer, request.scope)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    request.scope.setdefault("state", {})["client_gone"] = True
    return Response(status_code=CLIENT_GONE)


def _suggestion(request: Request) -> str:
    path = request.url.path
    bare = path.removeprefix("/v1")
    candidates = (f"/v1{path}", bare, path.rstrip("/"), f"{path}/completions")
    for candidate in candidates:
        if candidate and candidate != path and _allowed(request, candidate):
            return f"; did you mean {candidate}?"
    return "; the API is under /v1, for example POST /v1/chat/completions or GET /v1/models"


def _allowed(request: Request, path: str | None = None) -> set[str]:
    """Methods that some route takes on this path; one path may have several routes."""
    scope = {**request.scope, "path": path or request.url.path}
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods - {"HEAD"}
