from __future__ import annotations

import asyncio

import pytest

from server.admission import Admission, Ticket
from server.errors import ApiError
from server.settings import Settings
from server.storage.callers import Caller

FREE = Caller(key_id="free", name="free", role="inference", owner="free")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admission(clock: Clock, **settings: object) -> Admission:
    return Admission(Settings(**settings), clock)  # type: ignore[arg-type]  # any setting


def limited(**limits: int) -> Caller:
    return Caller(key_id="key", name="key", role="inference", owner="key", **limits)  # type: ignore[arg-type]  # limits


async def refusal(gate: Admission, caller: Caller, tokens: int = 1) -> ApiError:
    with pytest.raises(ApiError) as caught:
        async with gate.enter(caller, tokens):
            pass
    return caught.value


class Entrant:
    """Somebody who comes, perhaps waits in line, and stays until told to leave."""

    def __init__(self, gate: Admission, caller: Caller, tokens: int) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(gate.enter(caller, tokens)))

    async def _run(self, ticket: Ticket) -> None:
        async with ticket:
            self.entered.set()
            await self.leave.wait()


async def test_without_limits_there_are_no_headers_and_nothing_is_kept(clock: Clock) -> None:
    gate = admission(clock)
    async with gate.enter(FREE, 5) as ticket:
        assert ticket.headers == {}
        assert gate.running == 1
    assert gate.running == 0
    assert gate._usage == {}


async def test_requests_per_minute(clock: Clock) -> None:
    gate, caller = admission(clock), limited(requests_per_minute=2)
    for remaining in ("1", "0"):
        async with gate.enter(caller, 1) as ticket:
            assert ticket.headers["x-ratelimit-limit-requests"] == "2"
            assert ticket.headers["x-ratelimit-remaining-requests"] == remaining
    assert ticket.headers["x-ratelimit-reset-requests"] == "1m0s"
    error = await refusal(gate, caller)
    assert (error.status, error.type, error.code) == (429, "requests", "rate_limit_exceeded")
    assert error.headers["Retry-After"] == "30"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"


async def test_retry_after_is_true(clock: Clock) -> None:
    gate, caller = admission(clock), limited(requests_per_minute=7)
    for _ in range(7):
        async with gate.enter(caller, 1):
            pass
    clock.now += 0.3
    wait = int((await refusal(gate, caller)).headers["Retry-After"])
    clock.now += wait - 1
    await refusal(gate, caller)
    clock.now += 1
    async with gate.enter(caller, 1):
        pass


async def test_asking_in_between_does_not_lengthen_the_wait(clock: Clock) -> None:
    gate, caller = admission(clock), limited(requests_per_minute=6)
    for _ in range(6):
        async with gate.enter(caller, 1):
            pass
    for seconds_left in range(10, 0, -1):
        assert (await refusal(gate, caller)).headers["Retry-After"] == str(seconds_left)
        clock.now += 1
    async with gate.enter(caller, 1):
        pass


async def test_a_refused_request_costs_nothing(clock: Clock) -> None:
    gate, caller = admission(clock), limited(requests_per_minute=60, tokens_per_minute=100)
    async with gate.enter(caller, 100):
        pass
    for _ in range(3):
        assert (await refusal(gate, caller, 50)).type == "tokens"
    clock.now += 30
    async with gate.enter(caller, 50) as ticket:
        assert ticket.headers["x-ratelimit-remaining-requests"] == "59"
        assert ticket.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_unused_tokens_come_back(clock: Clock) -> None:
    gate, caller = admission(clock), limited(tokens_per_minute=100)
    async with gate.enter(caller, 90) as ticket:
        ticket.settle(10)
    async with gate.enter(caller, 90) as ticket:
        assert ticket.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_more_than_estimated_is_a_debt(clock: Clock) -> None:
    gate, caller = admission(clock), limited(tokens_per_minute=60)
    async with gate.enter(caller, 10) as ticket:
        ticket.settle(30)
        ticket.settle(120)  # the last word counts
    error = await refusal(gate, caller, 1)
    assert error.headers["Retry-After"] == "61"
    assert error.headers["x-ratelimit-remaining-tokens"] == "0"
    clock.now += 61
    async with gate.enter(caller, 1):
        pass


async def test_a_request_over_the_whole_limit_is_not_told_to_come_back(clock: Clock) -> None:
    error = await refusal(admission(clock), limited(tokens_per_minute=100), 101)
    assert error.status == 400
    assert "Retry-After" not in error.headers
    assert "waiting will not help" in error.message


async def test_a_check_says_what_entering_would_and_takes_nothing(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1, max_queued_requests=0)
    caller = limited(requests_per_minute=1)
    for _ in range(3):
        gate.check(caller, 10)
    async with gate.enter(caller, 10):
        with pytest.raises(ApiError) as over:
            gate.check(caller, 10)
        with pytest.raises(ApiError) as full:
            gate.check(FREE, 10)
    assert (over.value.code, full.value.code) == ("rate_limit_exceeded", "queue_full")
    gate.start_draining()
    with pytest.raises(ApiError) as closed:
        gate.check(FREE, 10)
    assert closed.value.status == 503


async def test_a_key_runs_so_many_at_once(clock: Clock) -> None:
    gate, caller = admission(clock), limited(max_concurrent=1)
    async with gate.enter(caller, 1):
        error = await refusal(gate, caller)
        assert (error.status, error.headers["Retry-After"]) == (429, "1")
        async with gate.enter(FREE, 1):
            pass
    async with gate.enter(caller, 1):
        pass


async def test_a_raised_limit_holds_at_once(clock: Clock) -> None:
    gate = admission(clock)
    async with gate.enter(limited(requests_per_minute=1), 1):
        pass
    await refusal(gate, limited(requests_per_minute=1))
    async with gate.enter(limited(requests_per_minute=5), 1) as ticket:
        assert ticket.headers["x-ratelimit-remaining-requests"] == "4"


async def test_the_line_is_first_in_first_out_and_bounded(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1, max_queued_requests=2)
    async with gate.enter(FREE, 1):
        first = Entrant(gate, FREE, 1)
        await asyncio.sleep(0)
        second = Entrant(gate, FREE, 1)
        await asyncio.sleep(0)
        assert gate.waiting == 2
        error = await refusal(gate, FREE)
        assert (error.status, error.code) == (429, "queue_full")
        assert int(error.headers["Retry-After"]) >= 1
    await first.entered.wait()
    assert not second.entered.is_set()
    assert (gate.running, gate.waiting) == (1, 1)
    first.leave.set()
    await second.entered.wait()
    second.leave.set()
    await second.task
    assert (gate.running, gate.waiting) == (0, 0)


async def test_retry_after_follows_how_long_answers_take(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1, max_queued_requests=0)
    for _ in range(100):
        async with gate.enter(FREE, 1):
            clock.now += 40
    async with gate.enter(FREE, 1):
        assert (await refusal(gate, FREE)).headers["Retry-After"] == "40"


async def test_who_waits_too_long_is_sent_away_and_pays_nothing(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1, queue_timeout_seconds=0.01)
    caller = limited(requests_per_minute=5, tokens_per_minute=100, max_concurrent=1)
    async with gate.enter(FREE, 1):
        error = await refusal(gate, caller, 60)
        assert (error.status, error.code) == (429, "queue_timeout")
        assert gate.waiting == 0
    async with gate.enter(caller, 60) as ticket:
        assert ticket.headers["x-ratelimit-remaining-requests"] == "4"
        assert ticket.headers["x-ratelimit-remaining-tokens"] == "40"


async def test_cancelled_in_line_leaves_no_trace(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1)
    caller = limited(requests_per_minute=5)
    async with gate.enter(FREE, 1):
        entrant = Entrant(gate, caller, 1)
        await asyncio.sleep(0)
        assert gate.waiting == 1
        entrant.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entrant.task
        assert gate.waiting == 0
    assert gate.running == 0
    async with gate.enter(caller, 1) as ticket:
        assert ticket.headers["x-ratelimit-remaining-requests"] == "4"


async def test_cancelled_just_as_its_turn_comes_passes_the_place_on(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1)
    async with gate.enter(FREE, 1):
        unlucky = Entrant(gate, FREE, 1)
        await asyncio.sleep(0)
        next_one = Entrant(gate, FREE, 1)
        await asyncio.sleep(0)
    unlucky.task.cancel()  # it holds the place already, but has not run since
    with pytest.raises(asyncio.CancelledError):
        await unlucky.task
    await next_one.entered.wait()
    assert gate.running == 1
    next_one.leave.set()
    await next_one.task
    assert gate.running == 0


async def test_an_error_inside_gives_the_place_back(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1)
    with pytest.raises(KeyError):
        async with gate.enter(FREE, 1):
            raise KeyError
    assert gate.running == 0


async def test_draining_lets_nobody_in_and_waits_for_those_inside(clock: Clock) -> None:
    gate = admission(clock, max_concurrent_requests=1, drain_seconds=12)
    inside = Entrant(gate, FREE, 1)
    await inside.entered.wait()
    outside = Entrant(gate, FREE, 1)
    await asyncio.sleep(0)
    drained = asyncio.create_task(gate.drain(60))
    with pytest.raises(ApiError) as caught:
        await outside.task
    error = await refusal(gate, FREE)
    assert caught.value.status == error.status == 503
    assert error.headers["Retry-After"] == "12"
    assert not drained.done()
    inside.leave.set()
    assert await drained is True
    assert gate.draining


async def test_draining_gives_up_in_the_end(clock: Clock) -> None:
    gate = admission(clock)
    async with gate.enter(FREE, 1):
        assert await gate.drain(0.01) is False
    assert await gate.drain(0.01) is True
