"""What answers while the engine starts: alive, not ready, a page for people, and a clear 503 for everything else.

The socket listens from the first second on, so that a health check, a browser and a client are told what is going on.
"""

from __future__ import annotations

import time

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server.error_handlers import error_response
from server.errors import ApiError
from server.starting_page import HEADERS, PAGE

USUAL_SECONDS = 40  # an engine start on two cores


class Booting:
    """An application that hands over to the real one as soon as that is there."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.stage = "starting"
        self._since = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is not None:
            await self.app(scope, receive, send)
            return
        if scope["type"] == "http":
            await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        if scope["path"] == "/health":
            return JSONResponse({"status": "ok"})
        wait = {"Retry-After": str(max(1, round(USUAL_SECONDS - (time.monotonic() - self._since))))}
        if scope["path"] == "/ready":
            return JSONResponse({"status": self.stage}, status_code=503, headers=wait)
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            return HTMLResponse(PAGE, status_code=503, headers=wait | HEADERS)
        message = f"the server is not ready yet ({self.stage}); try again when GET /ready answers 200"
        return error_response(ApiError(503, message, type="server_error", code="starting", headers=wait), scope)
