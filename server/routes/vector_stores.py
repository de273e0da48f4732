"""OpenAI's vector stores, by id or by name: made, listed, changed, removed, and embedded anew."""

from __future__ import annotations

import logging
import re
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from retrieval import fields
from retrieval.attachments import Entry
from retrieval.errors import RetrievalError, StoreInvalid
from retrieval.vector_store import VectorStore
from server.answering import read_as, read_body
from server.auth import seen_by
from server.errors import to_api_error
from server.routes.lists import PagingDep, listed
from server.services import CallerDep, Services, ServicesDep
from server.storage.callers import Caller
from server.store_rights import own_store
from server.threads import run_in

router = APIRouter()

logger = logging.getLogger(__name__)

MOST_FILES = 500  # in the body that makes a store; batches take more
LIKE_AN_ID = re.compile(r"vs_.*")


class NewStore(BaseModel):
    """Body of POST /v1/vector_stores; what is Any here is read by `retrieval.fields`, with OpenAI's limits."""

    model_config = ConfigDict(extra="forbid")
    name: Any = None
    description: Any = None
    metadata: Any = None
    file_ids: Annotated[list[str], Field(max_length=MOST_FILES)] | None = None
    chunking_strategy: Any = None
    expires_after: Any = None


@router.post("/v1/vector_stores")
async def create_store(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores/create"""
    body = await read_as(request, NewStore)
    store = await run_in(services.storage_pool, _create, services, caller, body)
    return JSONResponse(store.as_object())


@router.get("/v1/vector_stores")
async def list_stores(caller: CallerDep, services: ServicesDep, paging: PagingDep) -> Response:
    """One's own; an administrator's key lists all.

    https://platform.openai.com/docs/api-reference/vector-stores/list
    """
    page = await run_in(services.storage_pool, services.stores.list, seen_by(caller), **paging)
    return JSONResponse(listed([store.as_object() for store in page.items], has_more=page.has_more))


@router.get("/v1/vector_stores/{vector_store_id}")
async def retrieve_store(vector_store_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """With the facts of its index under `index`.

    https://platform.openai.com/docs/api-reference/vector-stores/retrieve
    """
    store = await run_in(services.storage_pool, _own, services, caller, vector_store_id)
    index = None if store.expired else await run_in(services.retrieval_pool, _details, services, store.id)
    return JSONResponse({**store.as_object(), "index": index})


@router.post("/v1/vector_stores/{vector_store_id}")
async def change_store(vector_store_id: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/vector-stores/modify"""
    changes = await read_body(request)
    store = await run_in(services.storage_pool, _change, services, caller, vector_store_id, changes)
    return JSONResponse(store.as_object())


@router.delete("/v1/vector_stores/{vector_store_id}")
async def delete_store(vector_store_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Its files stay files.

    https://platform.openai.com/docs/api-reference/vector-stores/delete
    """
    store = await run_in(services.file_pool, _delete, services, caller, vector_store_id)
    return JSONResponse({"id": store.id, "object": "vector_store.deleted", "deleted": True})


@router.post("/v1/vector_stores/{vector_store_id}/reembed")
async def reembed_store(vector_store_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Have its chunks embedded by this server's embedder, in the background; until then it answers as it did."""
    store = await run_in(services.storage_pool, _reembed, services, caller, vector_store_id)
    return JSONResponse(store.as_object(), status_code=202)


def _create(services: Services, caller: Caller, body: NewStore) -> VectorStore:
    _check_name(body.name)
    chunking = fields.read_chunking(body.chunking_strategy)
    store = services.stores.create(
        caller.owner,
        name=fields.read_name(body.name),
        description=fields.read_description(body.description),
        metadata=fields.read_metadata(body.metadata),
        expires_days=fields.read_expires_after(body.expires_after),
        **({} if chunking is None else {"chunking": chunking}),
    )
    if not body.file_ids:
        return store
    entries = [Entry(file_id=file_id) for file_id in body.file_ids]
    try:
        services.attachments.attach_batch(store.id, entries, owner=seen_by(caller))
    except BaseException:  # all or nothing: a file is not there, say
        services.stores.delete(store.id)
        raise
    return services.stores.get(store.id)


def _own(services: Services, caller: Caller, vector_store_id: str) -> VectorStore:
    return services.stores.get(own_store(vector_store_id, caller, services).id)


def _details(services: Services, store_id: str) -> dict[str, Any]:
    """A store whose index cannot be read is a store all the same; its next search says more."""
    try:
        return services.searcher.details(store_id)
    except RetrievalError as error:
        logger.warning("the index of %s gives no details: %s", store_id, error)
        return {"error": to_api_error(error).message}


def _change(services: Services, caller: Caller, vector_store_id: str, changes: dict[str, Any]) -> VectorStore:
    _check_name(changes.get("name"))
    return services.stores.update(own_store(vector_store_id, caller, services).id, changes=changes)


def _delete(services: Services, caller: Caller, vector_store_id: str) -> VectorStore:
    store = services.stores.delete(own_store(vector_store_id, caller, services).id)
    services.searcher.drop(store.id)
    return store


def _reembed(services: Services, caller: Caller, vector_store_id: str) -> VectorStore:
    store_id = own_store(vector_store_id, caller, services).id
    services.reembeddings.request(store_id, services.embedder.fingerprint)
    return services.stores.get(store_id)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and LIKE_AN_ID.fullmatch(name):
        raise StoreInvalid("name: what begins with 'vs_' is an id; give another name", param="name")
