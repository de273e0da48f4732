"""The three stateless dialects: chat completions, completions, Anthropic's messages; and token counts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.answering import answer_request, read_body
from server.engine.base import EngineRefused, Tool
from server.errors import ApiError
from server.services import CallerDep, Services, ServicesDep
from server.storage.callers import Caller

router = APIRouter()


@router.post("/v1/chat/completions")
async def create_chat_completion(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/chat/create"""
    return await answer_request(request, "chat", caller, services)


@router.post("/v1/completions")
async def create_completion(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/completions/create"""
    return await answer_request(request, "completions", caller, services)


@router.post("/v1/messages")
async def create_message(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://docs.anthropic.com/en/api/messages"""
    return await answer_request(request, "messages", caller, services)


@router.post("/v1/messages/count_tokens")
async def count_message_tokens(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """https://docs.anthropic.com/en/api/messages-count-tokens"""
    return await _count("count_tokens", request, caller, services)


@router.post("/tokenize")
@router.post("/v1/tokenize")
async def tokenize(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Token ids of a prompt or of rendered messages; vLLM's shape."""
    return await _count("tokenize", request, caller, services)


@router.post("/detokenize")
@router.post("/v1/detokenize")
async def detokenize(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """The text of token ids; vLLM's shape."""
    return await _count("detokenize", request, caller, services)


async def _count(tool: Tool, request: Request, caller: Caller, services: Services) -> Response:
    body: dict[str, Any] = await read_body(request)
    services.catalogue.plan({"model": services.catalogue.base_name, **body}, caller)  # the name must be the caller's
    async with services.admission.enter(caller, 0) as ticket:  # a request like any other, but it uses no tokens
        try:
            counted = await services.engine.count_tokens(tool, body)
        except EngineRefused as error:
            raise ApiError(error.status, error.message, type=error.kind, param=error.param) from error
    return JSONResponse(counted, headers=ticket.headers)
