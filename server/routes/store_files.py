"""Files in a vector store: attached to be read, listed, given attributes, taken out, and their text as it was read."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from retrieval import fields
from retrieval.attachments import Entry
from retrieval.pages import Page
from retrieval.vector_store import Status, StoreFile
from server.answering import read_as
from server.auth import seen_by
from server.routes.lists import Paging, PagingDep, listed, poll_after
from server.services import CallerDep, Services, ServicesDep
from server.storage.callers import Caller
from server.store_rights import own_store
from server.threads import run_in

router = APIRouter()

CHUNKS = 1000  # of a file's text in one page, unless told
LAST_POSITION = 2**31 - 1  # that a database's column holds


StatusFilter = Annotated[Status | None, Query(alias="filter")]


class NewStoreFile(BaseModel):
    """Body of POST …/files, and one of the `files` of a batch."""

    model_config = ConfigDict(extra="forbid")
    file_id: str = Field(min_length=1)
    attributes: Any = None
    chunking_strategy: Any = None


class NewAttributes(BaseModel):
    """Body of POST …/files/{file_id}: all attributes; those not given go."""

    model_config = ConfigDict(extra="forbid")
    attributes: Any


@router.post("/v1/vector_stores/{vector_store_id}/files")
async def attach_file(vector_store_id: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores-files/createFile"""
    body = await read_as(request, NewStoreFile)
    file = await run_in(services.storage_pool, _attach, services, caller, vector_store_id, body)
    return JSONResponse(file.as_object())


@router.get("/v1/vector_stores/{vector_store_id}/files")
async def list_store_files(
    vector_store_id: str,
    caller: CallerDep,
    services: ServicesDep,
    paging: PagingDep,
    status: StatusFilter = None,
) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores-files/listFiles"""
    return await answer_files(services, caller, vector_store_id, paging, status)


@router.get("/v1/vector_stores/{vector_store_id}/files/{file_id}")
async def retrieve_store_file(vector_store_id: str, file_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores-files/getFile"""

    def get() -> StoreFile:
        return services.attachments.get(own_store(vector_store_id, caller, services).id, file_id)

    file = await run_in(services.storage_pool, get)
    return JSONResponse(file.as_object(), headers=poll_after(file.status != "in_progress"))


@router.post("/v1/vector_stores/{vector_store_id}/files/{file_id}")
async def change_attributes(
    vector_store_id: str, file_id: str, request: Request, caller: CallerDep, services: ServicesDep
) -> Response:
    """Filters see them from the next search on.

    https://platform.openai.com/docs/api-reference/vector-stores-files/updateAttributes
    """
    body = await read_as(request, NewAttributes)
    attributes = fields.read_attributes(body.attributes)

    def change() -> StoreFile:
        store_id = own_store(vector_store_id, caller, services).id
        return services.attachments.set_attributes(store_id, file_id, attributes)

    return JSONResponse((await run_in(services.storage_pool, change)).as_object())


@router.delete("/v1/vector_stores/{vector_store_id}/files/{file_id}")
async def detach_file(vector_store_id: str, file_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """No search finds it any more; it stays a file.

    https://platform.openai.com/docs/api-reference/vector-stores-files/deleteFile
    """

    def detach() -> StoreFile:
        return services.attachments.detach(own_store(vector_store_id, caller, services).id, file_id)

    removed = await run_in(services.storage_pool, detach)
    return JSONResponse({"id": removed.file_id, "object": "vector_store.file.deleted", "deleted": True})


@router.get("/v1/vector_stores/{vector_store_id}/files/{file_id}/content")
async def read_store_file(
    vector_store_id: str,
    file_id: str,
    caller: CallerDep,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=10_000)] = CHUNKS,
    page: Annotated[int | None, Query(ge=0, le=LAST_POSITION)] = None,
) -> Response:
    """The chunks in their order; `page` is the `next_page` of the one before.

    https://platform.openai.com/docs/api-reference/vector-stores-files/getContent
    """

    def read() -> tuple[StoreFile, Page[tuple[int, str]]]:
        store_id = own_store(vector_store_id, caller, services).id
        file = services.attachments.get(store_id, file_id)
        return file, services.attachments.content(store_id, file_id, limit=limit, after=page)

    file, found = await run_in(services.storage_pool, read)
    return JSONResponse(
        {
            "object": "vector_store.file_content.page",
            "file_id": file.file_id,
            "filename": file.filename,
            "attributes": dict(file.attributes),
            "data": [{"type": "text", "text": text} for _, text in found.items],
            "has_more": found.has_more,
            "next_page": str(found.items[-1][0]) if found.has_more else None,
        }
    )


async def answer_files(
    services: Services,
    caller: Caller,
    vector_store_id: str,
    paging: Paging,
    status: Status | None,
    *,
    batch_id: str | None = None,
) -> Response:
    """A page of a store's files, or of those that one batch attached."""

    def page() -> Page[StoreFile]:
        store_id = own_store(vector_store_id, caller, services).id
        return services.attachments.list(store_id, batch_id=batch_id, status=status, **paging)

    found = await run_in(services.storage_pool, page)
    return JSONResponse(listed([file.as_object() for file in found.items], has_more=found.has_more))


def entry_of(file: NewStoreFile, place: str = "") -> Entry:
    """What is to be attached; `place` is what errors call it by: "files[0].". Raises StoreInvalid."""
    attributes = file.attributes
    return Entry(
        file_id=file.file_id,
        attributes=None if attributes is None else fields.read_attributes(attributes, f"{place}attributes"),
        chunking=fields.read_chunking(file.chunking_strategy, f"{place}chunking_strategy"),
    )


def _attach(services: Services, caller: Caller, vector_store_id: str, body: NewStoreFile) -> StoreFile:
    store_id = own_store(vector_store_id, caller, services).id
    entry = entry_of(body)
    return services.attachments.attach(
        store_id, entry.file_id, attributes=entry.attributes, chunking=entry.chunking, owner=seen_by(caller)
    )
