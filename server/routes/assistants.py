"""OpenAI's assistant objects, by id or by name: a model with instructions, examples and defaults."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from retrieval.errors import RetrievalError
from server.answering import read_body
from server.auth import require_admin
from server.errors import ApiError, to_api_error
from server.routes.lists import PagingDep, listed
from server.services import CallerDep, Services, ServicesDep
from server.store_rights import check_assistants_store
from server.threads import run_in

router = APIRouter()


@router.post("/v1/assistants")
async def create_assistant(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/assistants/createAssistant, plus `examples`."""
    require_admin(caller)
    body = await read_body(request)
    _check_model(body, services, required=True)
    await run_in(services.storage_pool, _check_stores, body, services)
    assistant = await run_in(services.storage_pool, services.assistants.create, body)
    return JSONResponse(assistant.as_object(), status_code=200)


@router.get("/v1/assistants")
async def list_assistants(caller: CallerDep, services: ServicesDep, paging: PagingDep) -> Response:
    """https://platform.openai.com/docs/api-reference/assistants/listAssistants"""
    require_admin(caller)
    page = services.assistants.list(**paging)
    return JSONResponse(listed([assistant.as_object() for assistant in page.items], has_more=page.has_more))


@router.get("/v1/assistants/{name}")
async def retrieve_assistant(name: str, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/assistants/getAssistant"""
    require_admin(caller)
    return JSONResponse(services.assistants.get(name).as_object())


@router.post("/v1/assistants/{name}")
async def change_assistant(name: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/assistants/modifyAssistant"""
    require_admin(caller)
    body = await read_body(request)
    _check_model(body, services, required=False)
    await run_in(services.storage_pool, _check_stores, body, services)
    assistant = await run_in(services.storage_pool, services.assistants.update, name, body)
    return JSONResponse(assistant.as_object())


@router.delete("/v1/assistants/{name}")
async def delete_assistant(name: str, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/assistants/deleteAssistant"""
    require_admin(caller)
    removed = await run_in(services.storage_pool, services.assistants.delete, name)
    return JSONResponse({"id": removed.id, "object": "assistant.deleted", "deleted": True})


def _check_model(body: dict[str, Any], services: Services, *, required: bool) -> None:
    model = body.get("model")
    if model is None and not required:
        return
    if not isinstance(model, str) or not model:
        raise ApiError(400, "model: name the base model or an adapter", param="model")
    if model == services.settings.base_name:
        return
    if services.assistants.find(model) is not None:
        raise ApiError(
            400, f"model: {model!r} is itself an assistant; name the base model or an adapter", param="model"
        )
    services.registry.resolve(model)  # raises what is wrong with the name


def _check_stores(body: dict[str, Any], services: Services) -> None:
    """That each store is there for the assistant; what has another form is told when its fields are read."""
    resources = body.get("tool_resources")
    search = resources.get("file_search") if isinstance(resources, dict) else None
    names = search.get("vector_store_ids") if isinstance(search, dict) else None
    for place, name in enumerate(names if isinstance(names, list) else ()):
        if not isinstance(name, str):
            return
        try:
            check_assistants_store(name, services)
        except RetrievalError as error:
            told = to_api_error(error)
            param = f"tool_resources.file_search.vector_store_ids[{place}]"
            raise ApiError(told.status, told.message, type=told.type, param=param, code=told.code) from error
