"""Up to 2,000 files put into a vector store at once: all or none, then counted, listed, and cancelled together."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from retrieval.attachments import BATCH_FILES, Entry
from retrieval.vector_store import FileBatch
from server.answering import read_as
from server.auth import seen_by
from server.errors import ApiError
from server.routes.lists import PagingDep, poll_after
from server.routes.store_files import NewStoreFile, StatusFilter, answer_files, entry_of
from server.services import CallerDep, ServicesDep
from server.store_rights import own_store
from server.threads import run_in

router = APIRouter()


class NewBatch(BaseModel):
    """Body of POST …/file_batches: ids that share attributes and chunking, or files that have their own."""

    model_config = ConfigDict(extra="forbid")
    file_ids: Annotated[list[str], Field(min_length=1, max_length=BATCH_FILES)] | None = None
    files: Annotated[list[NewStoreFile], Field(min_length=1, max_length=BATCH_FILES)] | None = None
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
    paging: PagingDep,
    status: StatusFilter = None,
) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores-file-batches/listBatchFiles"""
    return await answer_files(services, caller, vector_store_id, paging, status, batch_id=batch_id)


def _entries(body: NewBatch) -> list[Entry]:
    if (body.file_ids is None) == (body.files is None):
        raise ApiError(400, "give either `file_ids` or `files`", param="file_ids")
    if body.files is None:
        shared = NewStoreFile(file_id="-", attributes=body.attributes, chunking_strategy=body.chunking_strategy)
        of_all = entry_of(shared)
        return [
            Entry(file_id=file_id, attributes=of_all.attributes, chunking=of_all.chunking)
            for file_id in body.file_ids or ()
        ]
    for name in ("attributes", "chunking_strategy"):
        if getattr(body, name) is not None:
            raise ApiError(400, f"{name}: with `files`, each file has its own; give it there", param=name)
    return [entry_of(file, f"files[{place}].") for place, file in enumerate(body.files)]
