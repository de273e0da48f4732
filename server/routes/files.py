"""OpenAI's files: uploaded straight to the disk, listed, read again, deleted from here and from every store."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, JSONResponse, Response

from retrieval.errors import FileNotFound
from retrieval.fields import read_file_expires_after
from retrieval.file import PURPOSES, File
from server.auth import seen_by
from server.errors import ApiError
from server.routes.lists import listed
from server.services import CallerDep, Services, ServicesDep
from server.threads import run_in
from server.upload import Uploaded, receive, told_when_full

router = APIRouter()

FIELDS = {"purpose", "expires_after[anchor]", "expires_after[seconds]"}
SPAN = r"(\d{1,20}-\d{0,20}|-\d{1,20})"  # Python refuses to read numbers of thousands of digits
RANGES = re.compile(rf"bytes=\s*{SPAN}(\s*,\s*{SPAN})*\s*", re.IGNORECASE)


@router.post("/v1/files")
async def upload_file(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """A form with `file`, `purpose` and `expires_after[…]`; answered when the bytes are on the disk for good.

    https://platform.openai.com/docs/api-reference/files/create
    """
    pool = services.file_pool
    async with AsyncExitStack() as stack:
        staging = services.files.staging()
        folder = await run_in(pool, _staged, staging)
        stack.push_async_callback(run_in, pool, staging.__exit__, None, None, None)
        uploaded = await receive(request, folder, pool, fields=FIELDS, max_bytes=services.settings.max_file_bytes)
        file = await run_in(pool, _add, services, folder, uploaded, caller.owner)
    return JSONResponse(file.as_object())


@router.get("/v1/files")
async def list_files(
    caller: CallerDep,
    services: ServicesDep,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> Response:
    """https://platform.openai.com/docs/api-reference/files/list"""
    page = await run_in(
        services.storage_pool,
        services.files.list,
        seen_by(caller),
        purpose=purpose,
        limit=limit,
        order=order,
        after=after,
    )
    return JSONResponse(listed([file.as_object() for file in page.items], has_more=page.has_more))


@router.get("/v1/files/{file_id}")
async def retrieve_file(file_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/files/retrieve"""
    file = await run_in(services.storage_pool, services.files.get, file_id, seen_by(caller))
    return JSONResponse(file.as_object())


@router.api_route("/v1/files/{file_id}/content", methods=["GET", "HEAD"])
async def read_file(file_id: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """The bytes as they were sent, or ranges of them; for saving, never for showing: they are somebody's, not ours.

    https://platform.openai.com/docs/api-reference/files/retrieve-contents
    """
    file = await run_in(services.storage_pool, services.files.get, file_id, seen_by(caller))
    path, stat = await run_in(services.file_pool, _found, services, file)  # the bytes may have to be fetched
    _check_ranges(request.headers.get("range"), file.bytes)
    headers = {
        "Content-Disposition": attachment(file.filename),
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private",
        "ETag": f'"{file.digest}"',
    }
    return FileResponse(path, headers=headers, media_type="application/octet-stream", stat_result=stat)


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Gone from here and, from the next search on, from every vector store.

    https://platform.openai.com/docs/api-reference/files/delete
    """
    file = await run_in(services.file_pool, services.files.delete, file_id, seen_by(caller))
    return JSONResponse({"id": file.id, "object": "file", "deleted": True})


def attachment(filename: str) -> str:
    """A Content-Disposition that any client understands, whatever the name holds (RFC 6266)."""
    plain = re.sub(r'[^ -~]|["\\%]', "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _staged(staging: AbstractContextManager[Path]) -> Path:
    with told_when_full():
        return staging.__enter__()


def _add(services: Services, folder: Path, uploaded: Uploaded, owner: str) -> File:
    given = uploaded.fields
    if "purpose" not in given:
        raise ApiError(400, f"purpose: required, but missing; one of {list(PURPOSES)}", param="purpose")
    seconds = read_file_expires_after(given.get("expires_after[anchor]"), given.get("expires_after[seconds]"))
    with told_when_full():
        return services.files.add(
            folder,
            filename=uploaded.filename,
            purpose=given["purpose"],
            owner=owner,
            digest=uploaded.digest,
            expires_seconds=seconds,
        )


def _found(services: Services, file: File) -> tuple[Path, os.stat_result]:
    path = services.files.path(file)
    try:
        return path, path.stat()
    except FileNotFoundError:  # deleted between the two
        raise FileNotFound(f"no file has the id {file.id!r}") from None


def _check_ranges(header: str | None, n_bytes: int) -> None:
    """Raises ApiError 400 for a Range that is none, 416 for one that lies behind the end."""
    if header is None:
        return
    if not RANGES.fullmatch(header):
        raise ApiError(400, "Range must read like bytes=0-499", param="Range", code="range_invalid")
    for span in header.partition("=")[2].split(","):
        first, _, last = span.strip().partition("-")
        if first and last and int(first) > int(last):
            raise ApiError(400, f"Range {span.strip()} ends before it begins", param="Range", code="range_invalid")
        if (first and int(first) >= n_bytes) or (not first and int(last) == 0):
            raise ApiError(
                416,
                f"Range {span.strip()} lies behind the file's {n_bytes} bytes",
                param="Range",
                code="range_not_satisfiable",
                headers={"Content-Range": f"bytes */{n_bytes}"},
            )
