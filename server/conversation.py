"""One exchange of the Responses API: what was said before is put in, the answer is kept as a row."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from server.answering import (
    Begun,
    HeldAnswer,
    begin,
    cited_body,
    cited_frames,
    estimated_tokens,
    note_plan,
    now,
    start,
    whole_answer,
)
from server.asking import asked
from server.assistants import Plan
from server.citing.responses import with_results
from server.deadline import timed_out
from server.errors import ApiError, to_api_error
from server.patient_writes import write_patiently
from server.response_items import for_engine, read_items
from server.services import Services
from server.source_links import Link, source_links
from server.storage.callers import Caller
from server.storage.responses import INTERRUPTED, StoredResponse
from server.threads import run_in

logger = logging.getLogger(__name__)

DAY_SECONDS = 24 * 60 * 60
LAST_EVENTS = tuple(f"event: response.{status}\n" for status in ("completed", "incomplete", "failed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request to /v1/responses, resolved."""

    response_id: str
    caller: Caller
    plan: Plan
    body: dict[str, Any]  # for the engine: with the conversation, without what we do ourselves
    new_items: list[dict[str, Any]]  # what the client sent now, each with an id
    echo: dict[str, Any]  # fields of ours that the answer repeats
    store: bool
    background: bool

    @classmethod
    async def of(cls, body: dict[str, Any], caller: Caller, services: Services, *, response_id: str) -> Exchange:
        """Check and resolve; raises ApiError, and 404 for a previous response that is missing or another owner's."""
        store, background = _flag(body, "store", default=True), _flag(body, "background", default=False)
        if background and not store:
            raise ApiError(400, "a background response must be kept; leave `store` out", param="store")
        if background and body.get("stream"):
            raise ApiError(400, "a background response is polled, not streamed; leave `stream` out", param="stream")
        if body.get("conversation") is not None:
            raise ApiError(400, "conversations are not kept here; use `previous_response_id`", param="conversation")
        new_items = read_items(body.get("input"))
        earlier: list[dict[str, Any]] = []
        previous = body.get("previous_response_id")
        if previous is not None:
            if not isinstance(previous, str):
                raise ApiError(400, "previous_response_id: an id such as 'resp_…'", param="previous_response_id")
            earlier = await run_in(services.storage_pool, services.responses.conversation, previous, caller)
        plan = services.catalogue.plan(body, caller)  # after the last wait: a version's files stay from its claim on
        ours = ("store", "background", "previous_response_id", "include")
        forwarded = {key: value for key, value in body.items() if key not in ours}
        if not (isinstance(body.get("input"), str) and not earlier):
            forwarded["input"] = for_engine([*earlier, *new_items])
        if body.get("include") is not None:
            if not isinstance(body["include"], list):
                raise ApiError(400, "include: a list, such as ['message.output_text.logprobs']", param="include")
            forwarded["include"] = body["include"]
        echo = {
            "previous_response_id": previous,
            "store": store,
            "background": background,
            "metadata": body.get("metadata") or {},
            "instructions": body.get("instructions"),
            "user": body.get("user"),
        }
        tools = body.get("tools")
        if isinstance(tools, list) and any(
            isinstance(tool, dict) and tool.get("type") == "file_search" for tool in tools
        ):
            echo["tools"] = tools  # the engine is not told of the search
            echo["tool_choice"] = body.get("tool_choice") or "auto"
        return cls(
            response_id=response_id,
            caller=caller,
            plan=plan,
            body=forwarded,
            new_items=new_items,
            echo=echo,
            store=store,
            background=background,
        )


async def run_now(request: Request, exchange: Exchange, services: Services) -> Response:
    """Answer while the client waits, whole or streamed."""
    begun = await begin(
        request, exchange.body, exchange.plan, "responses", exchange.caller, services, request_id=exchange.response_id
    )
    if begun.answer.frames is not None:
        return HeldAnswer(_kept_frames(begun, exchange, services), request, begun, "responses")
    async with begun.stack:  # until it is kept: a server that drains waits for what is held
        body = {**cited_body(begun, "responses"), **exchange.echo}
        await _keep(exchange, _as_kept(body, begun), services)
    return whole_answer(request, begun, body)


async def run_in_background(request: Request, exchange: Exchange, services: Services) -> dict[str, Any]:
    """Keep a queued response, begin to answer it, and return it as it stands; the client polls or cancels.

    Raises ApiError where a request that is answered at once would be sent away, since nobody waits for this one.
    """
    note_plan(request, exchange.plan)
    services.admission.check(exchange.caller, estimated_tokens(exchange.body))
    asked(exchange.body, exchange.plan, "responses", services.settings)
    link = source_links(services.settings, str(request.base_url))
    with ExitStack() as stack:
        if exchange.plan.version is not None:
            stack.callback(services.slots.claim(exchange.plan.version))
        queued = _blank(exchange, "queued")
        await _keep(exchange, queued, services)
        task = services.background.start(exchange.response_id, _answer_later(exchange, link, services))
        claimed = stack.pop_all()
        task.add_done_callback(lambda _: claimed.close())
    return queued


async def _answer_later(exchange: Exchange, link: Link, services: Services) -> None:
    body, is_stopped = _blank(exchange, "failed"), False
    try:
        if not await _go_on(exchange, _blank(exchange, "in_progress"), services):
            return  # cancelled or deleted before it began
        async with AsyncExitStack() as stack, asyncio.timeout(services.settings.request_timeout_seconds):
            request = {key: value for key, value in exchange.body.items() if key != "stream"}
            begun = await start(
                request,
                exchange.plan,
                "responses",
                exchange.caller,
                services,
                stack,
                link=link,
                request_id=exchange.response_id,
            )
            body = _as_kept({**cited_body(begun, "responses"), **exchange.echo}, begun)
    except asyncio.CancelledError:  # the server stops; or the response was ended or deleted before, and stays so
        body = {**_blank(exchange, "failed"), "error": {"code": "server_error", "message": INTERRUPTED}}
        is_stopped = True
        raise
    except TimeoutError:
        body["error"] = {"code": "server_error", "message": timed_out(services).message}
    except Exception as error:
        told = to_api_error(error)
        if told.status >= 500:
            logger.exception("background response %s failed", exchange.response_id)
        body["error"] = {"code": told.code or "server_error", "message": told.message}
    finally:
        await asyncio.shield(_go_on(exchange, body, services, is_stopped=is_stopped))


async def _kept_frames(begun: Begun, exchange: Exchange, services: Services) -> AsyncGenerator[str, None]:
    """The answer's events; those that carry the response carry our fields too, and the last one is kept."""
    async with aclosing(cited_frames(begun, "responses", services)) as frames:
        async for frame in frames:
            if frame.startswith(("event: response.created\n", "event: response.in_progress\n")):
                yield _with_echo(frame, exchange)[0]
            elif frame.startswith(LAST_EVENTS):
                frame, response = _with_echo(frame, exchange)
                await _keep(
                    exchange, _as_kept(response, begun), services
                )  # before it is told, so that whoever reads it can go on
                yield frame
            else:
                yield frame


def _with_echo(frame: str, exchange: Exchange) -> tuple[str, dict[str, Any]]:
    head, _, data = frame.partition("data: ")
    event = json.loads(data)
    event["response"] = {**event["response"], **exchange.echo}
    return f"{head}data: {json.dumps(event, ensure_ascii=False)}\n\n", event["response"]


def _as_kept(body: dict[str, Any], begun: Begun) -> dict[str, Any]:
    return body if begun.bibliography is None else with_results(body, begun.bibliography)


async def _keep(exchange: Exchange, body: dict[str, Any], services: Services) -> None:
    if not exchange.store:
        return
    made = time.time()
    kept = StoredResponse(
        id=exchange.response_id,
        owner=exchange.caller.owner,
        status=body["status"],
        model=exchange.plan.public_name,
        created_at=made,
        expires_at=made + services.settings.response_days * DAY_SECONDS,
        body=body,
        input_items=tuple(exchange.new_items),
        previous_response_id=exchange.echo["previous_response_id"],
        background=exchange.background,
    )
    await run_in(services.storage_pool, services.responses.save, kept)


async def _go_on(exchange: Exchange, body: dict[str, Any], services: Services, *, is_stopped: bool = False) -> bool:
    """Write down the next state: the client was told that there is an answer coming. False where that is over already.

    As long as no server takes it for interrupted. For one that was stopped no database is waited for: the server ends,
    or its end is written already.
    """
    return await write_patiently(
        services.storage_pool,
        0.0 if is_stopped else services.settings.longest_answer_seconds,
        services.responses.finish,
        exchange.response_id,
        status=body["status"],
        body=body,
    )


def _blank(exchange: Exchange, status: str) -> dict[str, Any]:
    given = {name: value for name, value in exchange.body.items() if value is not None}
    return {
        "id": exchange.response_id,
        "object": "response",
        "created_at": now(),
        "status": status,
        "model": exchange.plan.public_name,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "usage": None,
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": given.get("tools", []),
        "temperature": given.get("temperature", 1.0),
        "top_p": given.get("top_p", 1.0),
        **exchange.echo,
    }


def _flag(body: dict[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ApiError(400, f"{name}: true or false, not {value!r}", param=name)
    return value
