"""Up to 2,000 files put into a vector store at once: all or none, then counted, listed, and cancelled together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from retrieval import fields
from retrieval.attachments import BATCH_FILES, Entry
from retrieval.pages import Page
from retrieval.vector_store import FileBatch, Status, StoreFile
from server.answering import read_as
from server.auth import seen_by
from server.errors import ApiError
from server.routes.lists import listed, poll_after
from server.services import CallerDep, ServicesDep
from server.store_rights import own_store
from server.threads import run_in

router = APIRouter()


class BatchFile(BaseModel):
    """One of `files`."""

    model_config = ConfigDict(extra="forbid")
    file_id: str = Field(min_length=1)
    attributes: Any = None
    chunking_strategy: Any = None


class NewBatch(BaseModel):
    """Body of POST …/file_batches: ids that share attributes and chunking, or files that have their own."""

    model_config = ConfigDict(extra="forbid")
    file_ids: Annotated[list[str], Field(min_length=1, max_length=BATCH_FILES)] | None = None
    files: Annotated[list[BatchFile], Field(min_length=1, max_length=BATCH_FILES)] | None = None
    attributes: Any = None
    chunking_strategy: Any = None


@router.post("/v1/vector_stores/{vector_store_id}/file_batches")
async def create_batch(vector_store_id: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores-file-batches/createBatch"""
    entries = _entries(await read_as(request, NewBatch))

    def create() -> FileBatch:
        store_id = own_store(vector_store_id, caller, services).id
        return services.attachments.attach_batch(store_id, entries, owner=seen_by(caller))

    return JSONResponse((await run_in(services.storage_pool, create)).as_object())


@router.get("/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}")
async def retrieve_batch(vector_store_id: str, batch_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores-file-batches/getBatch"""

    def get() -> FileBatch:
        return services.attachments.batch(own_store(vector_store_id, caller, services).id, batch_id)

    batch = await run_in(services.storage_pool, get)
    return JSONResponse(batch.as_object(), headers=poll_after(not batch.file_counts.in_progress))


@router.post("/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel")
async def cancel_batch(vector_store_id: str, batch_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """What was read stays.

    https://platform.openai.com/docs/api-reference/vector-stores-file-batches/cancelBatch
    """

    def cancel() -> FileBatch:
        return services.attachments.cancel_batch(own_store(vector_store_id, caller, services).id, batch_id)

    return JSONResponse((await run_in(services.storage_pool, cancel)).as_object())


@router.get("/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files")
async def list_batch_files(
    vector_store_id: str,
    batch_id: str,
    caller: CallerDep,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    before: str | None = None,
    status: Annotated[Status | None, Query(alias="filter")] = None,
) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores-file-batches/listBatchFiles"""

    def page() -> Page[StoreFile]:
        store_id = own_store(vector_store_id, caller, services).id
        return services.attachments.list(
            store_id, batch_id=batch_id, status=status, limit=limit, order=order, after=after, before=before
        )

    found = await run_in(services.storage_pool, page)
    return JSONResponse(listed([file.as_object() for file in found.items], has_more=found.has_more))


def _entries(body: NewBatch) -> list[Entry]:
    if (body.file_ids is None) == (body.files is None):
        raise ApiError(400, "give either `file_ids` or `files`", param="file_ids")
    if body.files is None:
        shared = BatchFile(file_id="-", attributes=body.attributes, chunking_strategy=body.chunking_strategy)
        of_all = _entry(shared, "")
        return [
            Entry(file_id=file_id, attributes=of_all.attributes, chunking=of_all.chunking)
            for file_id in body.file_ids or ()
        ]
    for name in ("attributes", "chunking_strategy"):
        if getattr(body, name) is not None:
            raise ApiError(400, f"{name}: with `files`, each file has its own; give it there", param=name)
    return [_entry(file, f"files[{place}].") for place, file in enumerate(body.files)]


def _entry(file: BatchFile, param: str) -> Entry:
    attributes = file.attributes
    return Entry(
        file_id=file.file_id,
        attributes=None if attributes is None else fields.read_attributes(attributes, f"{param}attributes"),
        chunking=fields.read_chunking(file.chunking_strategy, f"{param}chunking_strategy"),
    )
