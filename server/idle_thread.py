"""A thread of idle priority for a whole piece of work, whose questions are answered in the thread that waits for it.

So what computes gets the processor when nobody else wants it, and what holds the database's lock is never slow: the
database is only ever asked in the waiting thread.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

LOWEST_NICE = 19


class IdleThread:
    """One at a time; `ask` is for the work, `run` for who waits."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()

    def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises; meanwhile its questions are answered here."""
        done: Future[T] = Future()
        threading.Thread(target=self._work, args=(work, done), name="idle", daemon=True).start()
        while (asked := self._calls.get()) is not None:
            _settle(*asked)
        return done.result()

    def ask(self, call: Callable[[], T]) -> T:
        """What the call returns or raises in the thread that waits in `run`."""
        answer: Future[T] = Future()
        self._calls.put((call, answer))
        return answer.result()

    def _work(self, work: Callable[[], T], done: Future[T]) -> None:
        become_idle()
        _settle(work, done)
        self._calls.put(None)


def become_idle() -> None:
    """This thread, and those that it starts, get the processor when nobody else wants it."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_NICE)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _settle(call: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:  # noqa: BLE001  # whoever waits raises it
        answer.set_exception(error)
