"""The console's files, and what it asks before it shows anything; all else it does over the API of all clients."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from server.console_files import PAGE, POLICY, ConsoleFile, console_files
from server.services import CallerDep, ServicesDep
from server.version import VERSION

router = APIRouter()

FILES = console_files()


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page; open without key, since it holds nothing."""
    return _sent(FILES[PAGE], request)


@router.get("/console/session")
async def session(caller: CallerDep, services: ServicesDep) -> Response:
    """Who the caller is and what this server has, so that the page shows only what can be used."""
    return JSONResponse(
        {
            "object": "console.session",
            "version": VERSION,
            "base": services.settings.base_name,
            "name": caller.name,
            "role": caller.role,
            "reranker": bool(services.settings.reranker),
            "retrieval_results": services.settings.retrieval_results,
            "max_file_bytes": services.settings.max_file_bytes,
            "max_adapter_bytes": services.settings.max_adapter_bytes,
            "max_training_bytes": services.settings.max_training_bytes,
            "training": services.settings.training,
            "prompt_tuning": services.settings.prompt_tuning,
        }
    )


@router.api_route("/console/{path:path}", methods=["GET", "HEAD"])
async def file(path: str, request: Request) -> Response:
    """A script, sheet or picture of the page."""
    found = FILES.get(path)
    if found is None:
        raise HTTPException(404)
    return _sent(found, request)


def _sent(file: ConsoleFile, request: Request) -> Response:
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",  # asked for again each time, and answered 304: an upgrade shows at once
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Content-Security-Policy": POLICY,
    }
    if file.etag in _listed(request, "if-none-match"):
        return Response(status_code=304, headers=headers)
    body = file.body
    if "gzip" in _listed(request, "accept-encoding"):
        headers["Content-Encoding"] = "gzip"
        body = file.gzipped
    return Response(body, headers=headers, media_type=file.media_type)


def _listed(request: Request, header: str) -> set[str]:
    """The values of a header that is a list; `gzip;q=0` is therefore not `gzip`."""
    return {value.strip() for given in request.headers.getlist(header) for value in given.split(",")}
