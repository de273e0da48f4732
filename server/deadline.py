"""The longest time that one answer may take, also in the middle of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from server.engine.base import Answer, EngineUnavailable
from server.errors import ApiError
from server.metrics import RequestMeter
from server.services import Services


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
                meter.n_frames += 1
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


def timed_out(services: Services) -> ApiError:
    """504: the answer took longer than the server allows."""
    seconds = services.settings.request_timeout_seconds
    return ApiError(
        504,
        f"the answer took longer than {seconds:g} s; ask for less at once, or raise MANYHATS_REQUEST_TIMEOUT_SECONDS",
        type="server_error",
        code="timeout",
    )
