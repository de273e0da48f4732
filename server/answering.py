"""One request's way: auth → admission → assistants → sources → engine → citations, and back as one body or as a stream.

What a request holds (its place in the queue, its adapter's slot) is on one exit stack, which is closed when the last
byte has gone out, when the client goes away, or when anything fails.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from server.admission import Ticket
from server.assistants import Plan, dress
from server.citing import cite_body, cite_frames
from server.citing.bibliography import Bibliography
from server.deadline import timed_frames, timed_out
from server.disconnect import StreamedAnswer, while_connected
from server.engine.base import Answer, Call, Dialect, EngineRefused
from server.errors import ApiError, invalid_request
from server.errors import Dialect as ErrorDialect
from server.metrics import RequestMeter
from server.retrieved import retrieve
from server.services import Services
from server.source_links import Link, source_links
from server.storage.callers import Caller

M = TypeVar("M", bound=BaseModel)

CHARACTERS_PER_TOKEN = 4  # for the estimate on entry; settled with the tokenizer's count at the end
ERROR_SHAPE: Mapping[Dialect, ErrorDialect] = {
    "chat": "openai",
    "completions": "openai",
    "responses": "responses",
    "messages": "anthropic",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A request that the engine answers, or has answered; what it holds is on `stack`, for its owner to close."""

    answer: Answer
    meter: RequestMeter
    ticket: Ticket
    stack: AsyncExitStack
    bibliography: Bibliography | None  # None where no sources were asked for: the answer is the engine's own then
    search_seconds: float = 0.0
    deadline: float | None = None  # by the event loop's clock


async def answer_request(request: Request, dialect: Dialect, caller: Caller, services: Services) -> Response:
    """Answer a generation request in its dialect. Errors before the first byte have their own status."""
    body = await read_body(request)
    plan = services.catalogue.plan(body, caller)
    begun = await begin(request, body, plan, dialect, caller, services)
    if begun.answer.frames is not None:
        return HeldAnswer(cited_frames(begun, dialect, services), request, begun, dialect)
    await begun.stack.aclose()
    return whole_answer(request, begun, cited_body(begun, dialect))


async def begin(
    request: Request,
    body: dict[str, Any],
    plan: Plan,
    dialect: Dialect,
    caller: Caller,
    services: Services,
    *,
    request_id: str | None = None,
) -> Begun:
    """Wait for a whole answer or a stream's first frame, while the client is there and time is left.

    Nothing may be awaited between the plan and this: from here on the version's files stay. Where it raises (ApiError,
    ClientDisconnected, or what the parts on the way raise), nothing is held any more.
    """
    note_plan(request, plan)
    link = source_links(services.settings, str(request.base_url))
    stack = AsyncExitStack()
    try:
        async with asyncio.timeout(services.settings.request_timeout_seconds) as deadline:
            running = start(body, plan, dialect, caller, services, stack, link=link, request_id=request_id)
            begun = await while_connected(request, running)
    except TimeoutError:
        await stack.aclose()
        raise timed_out(services) from None
    except BaseException:
        await stack.aclose()
        raise
    return replace(begun, deadline=deadline.when())


async def start(
    body: dict[str, Any],
    plan: Plan,
    dialect: Dialect,
    caller: Caller,
    services: Services,
    stack: AsyncExitStack,
    *,
    link: Link,
    request_id: str | None = None,
) -> Begun:
    """Wait for a place, the sources and a slot, then ask the engine; what is held is on `stack`."""
    meter = stack.enter_context(services.metrics.request(plan.label))
    if plan.version is not None:
        stack.callback(services.slots.claim(plan.version))  # its files stay while this request waits
    try:
        ticket = await stack.enter_async_context(services.admission.enter(caller, estimated_tokens(body)))
        dressed = await dress(body, plan, dialect, services.engine)
        asked_at = time.perf_counter()
        grounded, retrieved = await retrieve(dressed, plan, dialect, caller, services, said=body)
        search_seconds = time.perf_counter() - asked_at
        bibliography = None if retrieved is None else Bibliography.of(retrieved, link, dressed)
        if bibliography is not None and bibliography.echoed and body.get("logprobs") is None:  # both are refused
            grounded = {**grounded, "echo": False}  # the engine's prompt has the sources in it, the client's has not
        adapter = None
        if plan.version is not None:  # after the search: a slot is not held while nothing is computed in it
            adapter = await stack.enter_async_context(services.slots.hold(plan.version))
        answer = await services.engine.answer(
            Call(
                dialect=dialect,
                body=grounded,
                public_name=plan.public_name,
                request_id=request_id or uuid.uuid4().hex,
                adapter=adapter,
            )
        )
    except EngineRefused as error:
        raise _as_api_error(error, dialect) from error
    # a stack unwinds backwards: the generation stops, its tokens are counted, and only then its place is free
    stack.callback(_settle, answer, ticket, meter, grounded)
    if answer.frames is not None:
        stack.push_async_callback(answer.frames.aclose)
    return Begun(
        answer=answer,
        meter=meter,
        ticket=ticket,
        stack=stack,
        bibliography=bibliography,
        search_seconds=search_seconds,
    )


def cited_frames(begun: Begun, dialect: Dialect, services: Services) -> AsyncGenerator[str, None]:
    """The engine's frames until time is up, with the sources on them where there were any."""
    frames = timed_frames(begun.answer, begun.meter, begun.deadline, services)
    return frames if begun.bibliography is None else cite_frames(dialect, frames, begun.bibliography)


def cited_body(begun: Begun, dialect: Dialect) -> dict[str, Any]:
    """The engine's whole answer, with the sources on it where there were any."""
    body = begun.answer.body or {}
    return body if begun.bibliography is None else cite_body(dialect, body, begun.bibliography)


class HeldAnswer(StreamedAnswer):
    """A stream that gives back what its request holds, also when it was never read."""

    def __init__(self, frames: AsyncGenerator[str, None], request: Request, begun: Begun, dialect: Dialect) -> None:
        super().__init__(None, frames, dialect=ERROR_SHAPE[dialect], headers=begun.ticket.headers)
        self._request = request
        self._begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._begun.stack.aclose()
            _note(self._request, self._begun)


def whole_answer(request: Request, begun: Begun, body: dict[str, Any]) -> Response:
    """The answer as one body."""
    _note(request, begun)
    return JSONResponse(body, headers=begun.ticket.headers)


async def read_body(request: Request) -> dict[str, Any]:
    """The request's JSON object; ApiError 400 says where it stops being one."""
    content = await request.body()
    try:
        body = json.loads(content.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\u" in content:  # half of a surrogate pair has no UTF-8, so nothing could tell it back or keep it
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8, at byte {error.start}", code="invalid_json") from None
    except UnicodeEncodeError:
        raise ApiError(
            400,
            "the body has half of a surrogate pair, such as \\ud83d alone; send the whole character",
            code="invalid_json",
        ) from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise ApiError(
            400, "the body is not JSON that can be read: it is nested too deep", code="invalid_json"
        ) from None
    if not isinstance(body, dict):
        raise ApiError(400, f"the body must be a JSON object, not {type(body).__name__}", code="invalid_json")
    return body


async def read_as(request: Request, kind: type[M]) -> M:
    """The body as a model of pydantic's, read only once the caller is known; ApiError 400 names the wrong fields."""
    try:
        return kind.model_validate(await read_body(request))
    except ValidationError as error:
        raise invalid_request(error.errors()) from None


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number that JSON has")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is too large a number")
    return number


def estimated_tokens(body: Mapping[str, Any]) -> int:
    """Prompt tokens by length, before the tokenizer has seen them."""
    asked = body.get("messages") or body.get("input") or body.get("prompt") or ""
    length = len(asked) if isinstance(asked, str) else len(json.dumps(asked, ensure_ascii=False))
    return max(1, length // CHARACTERS_PER_TOKEN)


def _as_api_error(error: EngineRefused, dialect: Dialect) -> ApiError:
    message, param, code = error.message, error.param, None
    if param == "input_tokens":  # vLLM's word; OpenAI names the field and has a code that clients look for
        param = {"chat": "messages", "messages": "messages", "responses": "input", "completions": "prompt"}[dialect]
        code = "context_length_exceeded"
    return ApiError(error.status, message, type=error.kind, param=param, code=code)


def _settle(answer: Answer, ticket: Ticket, meter: RequestMeter, body: Mapping[str, Any]) -> None:
    usage = answer.usage()
    if not usage.prompt_tokens:  # broken off: the engine counts at the end, and what it made until then was used too
        ticket.settle(estimated_tokens(body) + meter.n_frames)
        return
    ticket.settle(usage.prompt_tokens + usage.completion_tokens)
    meter.tokens(usage.prompt_tokens, usage.completion_tokens)


def note_plan(request: Request, plan: Plan) -> None:
    """Tell the request's log line and count what it is about."""
    request.state.model = plan.public_name
    request.state.adapter = plan.version.id if plan.version else None


def _note(request: Request, begun: Begun) -> None:
    usage = begun.answer.usage()
    request.state.prompt_tokens = usage.prompt_tokens
    request.state.completion_tokens = usage.completion_tokens
    if begun.bibliography is not None:
        request.state.sources = len(begun.bibliography.retrieved.sources)
        request.state.search_ms = round(begun.search_seconds * 1000, 1)


def now() -> int:
    """Seconds since the epoch, as OpenAI's objects count."""
    return int(time.time())
