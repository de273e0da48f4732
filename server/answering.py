"""One request's way: auth → admission → assistants → engine, and back to the client as one body or as a stream.

What a request holds (its place in the queue, its adapter's slot) is on one exit stack, which is closed when the last
byte has gone out, when the client goes away, or when anything fails.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from server.admission import Ticket
from server.assistants import Plan, dress
from server.disconnect import StreamedAnswer, while_connected
from server.engine.base import Answer, Call, Dialect, EngineRefused, EngineUnavailable
from server.errors import ApiError, invalid_request
from server.errors import Dialect as ErrorDialect
from server.metrics import RequestMeter
from server.services import Services
from server.storage.callers import Caller

M = TypeVar("M", bound=BaseModel)

CHARACTERS_PER_TOKEN = 4  # for the estimate on entry; settled with the tokenizer's count at the end
ERROR_SHAPE: Mapping[Dialect, ErrorDialect] = {
    "chat": "openai",
    "completions": "openai",
    "responses": "responses",
    "messages": "anthropic",
}


async def answer_request(request: Request, dialect: Dialect, caller: Caller, services: Services) -> Response:
    """Answer a generation request in its dialect. Errors before the first byte have their own status."""
    body = await read_body(request)
    plan = services.catalogue.plan(body, caller)
    request.state.model = plan.public_name
    request.state.adapter = plan.version.id if plan.version else None
    stack = AsyncExitStack()
    try:
        async with asyncio.timeout(services.settings.request_timeout_seconds) as deadline:
            running = start(body, plan, dialect, caller, services, stack)
            answer, meter, ticket = await while_connected(request, running)
    except TimeoutError:
        await stack.aclose()
        raise timed_out(services) from None
    except BaseException:
        await stack.aclose()
        raise
    if answer.frames is None:
        await stack.aclose()
        _note(request, answer)
        return JSONResponse(answer.body, headers=ticket.headers)
    frames = timed_frames(answer, meter, deadline.when(), services)
    return HeldAnswer(frames, stack, dialect=dialect, headers=ticket.headers, on_end=lambda: _note(request, answer))


async def start(
    body: dict[str, Any],
    plan: Plan,
    dialect: Dialect,
    caller: Caller,
    services: Services,
    stack: AsyncExitStack,
    *,
    request_id: str | None = None,
) -> tuple[Answer, RequestMeter, Ticket]:
    """Wait for a place and a slot, then ask the engine; what is held is on `stack`."""
    meter = stack.enter_context(services.metrics.request(plan.label, dialect))
    if plan.version is not None:
        stack.callback(services.slots.claim(plan.version))  # its files stay while this request waits
    try:
        ticket = await stack.enter_async_context(services.admission.enter(caller, estimated_tokens(body)))
        adapter = None
        if plan.version is not None:
            adapter = await stack.enter_async_context(services.slots.hold(plan.version))
        dressed = await dress(body, plan, dialect, services.engine)
        answer = await services.engine.answer(
            Call(
                dialect=dialect,
                body=dressed,
                public_name=plan.public_name,
                request_id=request_id or uuid.uuid4().hex,
                adapter=adapter,
            )
        )
    except EngineRefused as error:
        raise _as_api_error(error, dialect) from error
    # runs before the ticket is given back, since a stack unwinds backwards
    stack.callback(_settle, answer, ticket, meter)
    return answer, meter, ticket


async def timed_frames(
    answer: Answer, meter: RequestMeter, deadline: float | None, services: Services
) -> AsyncGenerator[str, None]:
    """The engine's frames as they are, with a clock on the first one; raises ApiError when time is up."""
    frames = answer.frames
    assert frames is not None
    clock = _Deadline(deadline)
    first = True
    async with aclosing(frames):
        try:
            while True:
                # one timer for the whole stream: a timeout per frame would cost every frame
                with clock:
                    frame = await anext(frames, None)
                if first:
                    meter.first_token()
                    first = False
                if frame is None:
                    return
                yield frame
        except TimeoutError:
            meter.failed("timeout")
            raise timed_out(services) from None
        except EngineUnavailable:
            meter.failed("engine_unavailable")
            raise
        finally:
            clock.stop()


class _Deadline:
    """Interrupts the wait inside its `with` when time is up; time spent elsewhere is noticed at the next wait."""

    def __init__(self, when: float | None) -> None:
        self._task = asyncio.current_task()
        self._waiting = False
        self._expired = False
        self._timer = None if when is None else asyncio.get_running_loop().call_at(when, self._expire)

    def __enter__(self) -> None:
        if self._expired:
            raise TimeoutError
        self._waiting = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._waiting = False
        interrupted = self._expired and kind is asyncio.CancelledError and self._task is not None
        if interrupted and self._task is not None and self._task.uncancel() == 0:
            raise TimeoutError from error

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        if self._waiting and self._task is not None:
            self._task.cancel()


class HeldAnswer(StreamedAnswer):
    """A stream that gives back what its request holds, also when it was never read."""

    def __init__(
        self,
        frames: AsyncGenerator[str, None],
        stack: AsyncExitStack,
        *,
        dialect: Dialect,
        headers: Mapping[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(None, frames, dialect=ERROR_SHAPE[dialect], headers=headers)
        self._stack = stack
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stack.aclose()
            self._on_end()


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


def timed_out(services: Services) -> ApiError:
    """504: the answer took longer than the server allows."""
    seconds = services.settings.request_timeout_seconds
    return ApiError(
        504,
        f"the answer took longer than {seconds:g} s; ask for fewer tokens, or raise MANYHATS_REQUEST_TIMEOUT_SECONDS",
        type="server_error",
        code="timeout",
    )


def _as_api_error(error: EngineRefused, dialect: Dialect) -> ApiError:
    message, param, code = error.message, error.param, None
    if param == "input_tokens":  # vLLM's word; OpenAI names the field and has a code that clients look for
        param = {"chat": "messages", "messages": "messages", "responses": "input", "completions": "prompt"}[dialect]
        code = "context_length_exceeded"
    return ApiError(error.status, message, type=error.kind, param=param, code=code)


def _settle(answer: Answer, ticket: Ticket, meter: RequestMeter) -> None:
    usage = answer.usage()
    ticket.settle(usage.prompt_tokens + usage.completion_tokens)
    meter.tokens(usage.prompt_tokens, usage.completion_tokens)


def _note(request: Request, answer: Answer) -> None:
    usage = answer.usage()
    request.state.prompt_tokens = usage.prompt_tokens
    request.state.completion_tokens = usage.completion_tokens


def now() -> int:
    """Seconds since the epoch, as OpenAI's objects count."""
    return int(time.time())
