"""In, in line, or 429: limits of each key and one bounded line for the whole server.

A key's limits are buckets that refill evenly over a minute. Tokens are taken by estimate on entry and settled with the
real count at the end, so a bucket may go below zero and the key then waits until it is paid back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from server.bucket import MINUTE, ROUNDING, Bucket, refilled
from server.errors import ApiError
from server.settings import Settings
from server.storage.callers import Caller

LONGEST_RETRY_SECONDS = 300


@dataclass(slots=True)
class Usage:
    """What one key has used lately."""

    running: int = 0  # waiting in line included
    requests: Bucket | None = None
    tokens: Bucket | None = None


@dataclass(slots=True)
class Ticket:
    """One request's place, given back on leaving the `async with`."""

    admission: Admission
    caller: Caller
    estimated_tokens: int
    headers: dict[str, str] = field(default_factory=dict)  # OpenAI's x-ratelimit-*, for keys with limits
    _settled: int | None = None
    _held: bool = False
    _entered_at: float = 0.0

    def settle(self, tokens: int) -> None:
        """Replace the estimate by the tokens really used, prompt and answer; the last call counts."""
        usage = self.admission._usage.get(self.caller.key_id)
        if usage is not None and usage.tokens is not None:
            before = self.estimated_tokens if self._settled is None else self._settled
            usage.tokens.put_back(before - tokens)
        self._settled = tokens

    async def __aenter__(self) -> Ticket:
        await self.admission._enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.admission._leave(self)


class Admission:
    """Who may generate now. All on one event loop; nothing here blocks."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.draining = False
        self.running = 0
        self._settings = settings
        self._clock = clock
        self._usage: dict[str, Usage] = {}
        self._line: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_seconds = 1.0  # how long a place was held lately, for honest Retry-After

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    def enter(self, caller: Caller, estimated_tokens: int) -> Ticket:
        """`async with` it for as long as the request runs.

        Raises ApiError: 429 with Retry-After over a limit, 400 where waiting would never help, 503 while draining.
        """
        return Ticket(self, caller, estimated_tokens)

    def check(self, caller: Caller, estimated_tokens: int) -> None:
        """Raise what `enter` would raise at once and take nothing: for work that begins after it was answered."""
        self._checked(self.enter(caller, estimated_tokens))

    def start_draining(self) -> None:
        """Let nobody in any more; whoever waits in line is told to go elsewhere."""
        self.draining = True
        for place in self._line:
            if not place.done():
                place.set_exception(self._going_down())
        self._line.clear()

    async def drain(self, seconds: float) -> bool:
        """Let nobody in, and wait until all have left; False when some had not after so many seconds."""
        self.start_draining()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _enter(self, ticket: Ticket) -> None:
        usage = self._checked(ticket)
        self._take(ticket, usage)
        try:
            if self._is_full:
                await self._stand_in_line()
            else:
                self._occupy()
        except BaseException:  # refused, timed out or cancelled while in line: nothing was used
            if usage.requests is not None:
                usage.requests.put_back(1)
            ticket.settle(0)
            self._count_out(ticket.caller)
            raise
        ticket._held = True
        ticket._entered_at = self._clock()

    @property
    def _is_full(self) -> bool:
        return self.running >= self._settings.max_concurrent_requests

    def _checked(self, ticket: Ticket) -> Usage:
        if self.draining:
            raise self._going_down()
        usage = self._refilled(ticket.caller)
        self._check(ticket, usage)
        if self._is_full and self.waiting >= self._settings.max_queued_requests:
            raise self._too_busy("queue_full", f"{self.waiting} requests wait already")
        return usage

    def _leave(self, ticket: Ticket) -> None:
        if not ticket._held:
            return
        ticket._held = False
        self._mean_seconds += 0.1 * (self._clock() - ticket._entered_at - self._mean_seconds)
        self._count_out(ticket.caller)
        self._release()

    def _refilled(self, caller: Caller) -> Usage:
        now = self._clock()
        usage = self._usage.get(caller.key_id, Usage())
        usage.requests = refilled(usage.requests, caller.requests_per_minute, now)
        usage.tokens = refilled(usage.tokens, caller.tokens_per_minute, now)
        return usage

    def _check(self, ticket: Ticket, usage: Usage) -> None:
        caller = ticket.caller
        if caller.max_concurrent is not None and usage.running >= caller.max_concurrent:
            message = f"this key may run {caller.max_concurrent} requests at once; wait for one to end"
            raise self._over_limit("requests", message, self._mean_seconds, usage)
        if usage.requests is not None and (wait := usage.requests.seconds_until(1)):
            message = f"this key may make {caller.requests_per_minute} requests per minute"
            raise self._over_limit("requests", message, wait, usage)
        if usage.tokens is None:
            return
        if ticket.estimated_tokens > usage.tokens.per_minute:
            raise ApiError(
                400,
                f"this request needs about {ticket.estimated_tokens} tokens, and its key may use "
                f"{usage.tokens.per_minute} per minute: waiting will not help; shorten it or ask for a larger limit",
                type="tokens",
                code="request_over_token_limit",
                headers={**_headers(usage), "x-should-retry": "false"},
            )
        if wait := usage.tokens.seconds_until(ticket.estimated_tokens):
            message = (
                f"this key may use {caller.tokens_per_minute} tokens per minute, and this request needs about "
                f"{ticket.estimated_tokens}"
            )
            raise self._over_limit("tokens", message, wait, usage)

    def _take(self, ticket: Ticket, usage: Usage) -> None:
        self._usage[ticket.caller.key_id] = usage
        usage.running += 1
        if usage.requests is not None:
            usage.requests.level -= 1
        if usage.tokens is not None:
            usage.tokens.level -= ticket.estimated_tokens
        ticket.headers = _headers(usage)

    def _count_out(self, caller: Caller) -> None:
        usage = self._usage[caller.key_id]
        usage.running -= 1
        if not usage.running and usage.requests is None and usage.tokens is None:
            del self._usage[caller.key_id]  # a key without limits leaves nothing behind

    async def _stand_in_line(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        seconds = self._settings.queue_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await place
        except TimeoutError:
            self._hand_on(place)
            raise self._too_busy("queue_timeout", f"no place came free within {seconds:g} s") from None
        except asyncio.CancelledError:
            self._hand_on(place)
            raise

    def _hand_on(self, place: asyncio.Future[None]) -> None:
        """Whoever leaves the line just as its turn comes has a place to pass on."""
        if place.done() and not place.cancelled() and place.exception() is None:
            self._release()
        elif place in self._line:
            self._line.remove(place)

    def _occupy(self) -> None:
        self.running += 1
        self._idle.clear()

    def _release(self) -> None:
        while self._line:
            place = self._line.popleft()
            if not place.done():
                place.set_result(None)  # the place changes hands, so `running` stays
                return
        self.running -= 1
        if not self.running:
            self._idle.set()

    def _over_limit(self, kind: str, message: str, wait: float, usage: Usage) -> ApiError:
        headers = {**_headers(usage), "Retry-After": str(_whole(wait))}
        message = f"{message}; try again in {_whole(wait)} s"
        return ApiError(429, message, type=kind, code="rate_limit_exceeded", headers=headers)

    def _too_busy(self, code: str, reason: str) -> ApiError:
        turns = (self.waiting + 1) / self._settings.max_concurrent_requests
        wait = min(_whole(self._mean_seconds * turns), LONGEST_RETRY_SECONDS)
        message = f"the server is busy: {reason}; try again in {wait} s"
        return ApiError(429, message, type="requests", code=code, headers={"Retry-After": str(wait)})

    def _going_down(self) -> ApiError:
        wait = _whole(self._settings.drain_seconds)
        message = "the server is shutting down; try again when it is back, or on another replica"
        return ApiError(503, message, type="server_error", code="shutting_down", headers={"Retry-After": str(wait)})


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds - ROUNDING))


def _headers(usage: Usage) -> dict[str, str]:
    headers = {}
    for kind, bucket in (("requests", usage.requests), ("tokens", usage.tokens)):
        if bucket is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(bucket.per_minute)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, math.floor(bucket.level)))
            headers[f"x-ratelimit-reset-{kind}"] = _duration(bucket.seconds_until(bucket.per_minute))
    return headers


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `20ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < MINUTE:
        return f"{math.ceil(seconds * 10) / 10:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s"
