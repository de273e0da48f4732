"""OpenAI's Responses: created by vLLM, kept by us.

vLLM is called with `store=false`; the conversation of `previous_response_id` is put into `input` here, and what is kept
are rows with an owner and an expiry. https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from server.answering import read_body
from server.asking import RESULTS
from server.citing.responses import without_results
from server.conversation import Exchange, run_in_background, run_now
from server.errors import ApiError
from server.routes.lists import listed
from server.services import CallerDep, ServicesDep
from server.storage.responses import RESPONSE
from server.threads import run_in

router = APIRouter()


@router.post("/v1/responses")
async def create_response(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Answer now, as a stream, or in the background; kept for 30 days unless `store` is false."""
    body = await read_body(request)
    exchange = await Exchange.of(body, caller, services, response_id=f"{RESPONSE}{uuid.uuid4().hex}")
    if exchange.background:
        return JSONResponse(await run_in_background(request, exchange, services))
    return await run_now(request, exchange, services)


@router.get("/v1/responses/{response_id}")
async def retrieve_response(
    request: Request, response_id: str, caller: CallerDep, services: ServicesDep, stream: bool = False
) -> Response:
    """One's own response as it stands, with what was found where `include` asks; 404 for another owner's."""
    if stream:
        raise ApiError(
            400, "a kept response is not streamed again; leave `stream` out and poll its status", param="stream"
        )
    row = await run_in(services.storage_pool, services.responses.load, response_id, caller)
    included = [*request.query_params.getlist("include[]"), *request.query_params.getlist("include")]
    return JSONResponse(row.body if RESULTS in included else without_results(row.body))


@router.delete("/v1/responses/{response_id}")
async def delete_response(response_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Forget a response; one that is still being made is stopped."""
    await run_in(services.storage_pool, services.responses.delete, response_id, caller)
    services.background.cancel(response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(response_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Stop a background response; one that has ended stays as it is."""
    row = await run_in(services.storage_pool, services.responses.load, response_id, caller)
    if not row.background:
        raise ApiError(400, f"{response_id!r} was not created with `background: true`", param="response_id")
    row = await run_in(services.storage_pool, services.responses.cancel, response_id, caller)
    services.background.cancel(response_id)
    return JSONResponse(without_results(row.body))


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    response_id: str,
    caller: CallerDep,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> Response:
    """What the client sent for this response, not what was said before it."""
    page = await run_in(
        services.storage_pool,
        services.responses.list_input_items,
        response_id,
        caller,
        limit=limit,
        order=order,
        after=after,
    )
    return JSONResponse(listed([dict(item) for item in page.items], has_more=page.has_more))
