from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from retrieval.index import tending as tending_module
from retrieval.index.dense_state import GivenUp
from retrieval.index.tending import Tending


class Recorded:
    """An index that says what was done with it."""

    store_id = "vs_1"

    def __init__(self, work: Callable[[Callable[[], bool]], None] = lambda stopped: None) -> None:
        self.work = work
        self.due = False
        self.done: list[str] = []
        self.saved, self.closed = threading.Event(), threading.Event()
        self.priority = 0

    def needs_tending(self) -> bool:
        return self.due

    def tend(self, stopped: Callable[[], bool]) -> None:
        self.priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self.done.append("tend")
        self.work(stopped)
        self.due = False

    def save(self) -> None:
        self.done.append("save")
        self.saved.set()

    def close(self) -> None:
        self.done.append("close")
        self.closed.set()


@pytest.fixture
def tending() -> Iterator[Tending]:
    tending = Tending(quiet_seconds=0)
    yield tending
    tending.close()


def test_a_quiet_index_is_tended_and_saved_at_low_priority(tending: Tending) -> None:
    index = Recorded()
    tending.soon(index)  # type: ignore[arg-type]  # it has all that is asked for
    assert index.saved.wait(10)
    assert index.done == ["tend", "save"]
    assert index.priority == min(19, os.getpriority(os.PRIO_PROCESS, 0) + tending_module.NICENESS)


def test_caches_wait_for_quiet_and_graphs_do_not() -> None:
    tending = Tending(quiet_seconds=3_600)
    quiet, urgent = Recorded(), Recorded()
    urgent.due = True
    tending.soon(quiet)  # type: ignore[arg-type]
    tending.soon(urgent)  # type: ignore[arg-type]
    assert urgent.saved.wait(10)
    tending.close()
    assert quiet.done == []


def test_work_is_given_up_at_the_end() -> None:
    begun = threading.Event()

    def long(stopped: Callable[[], bool]) -> None:
        begun.set()
        while not stopped():
            pass
        raise GivenUp

    tending = Tending(quiet_seconds=0)
    index = Recorded(long)
    tending.soon(index)  # type: ignore[arg-type]
    assert begun.wait(10)
    tending.close()
    assert index.done == ["tend"]


def test_a_failure_is_logged_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tending: Tending
) -> None:
    monkeypatch.setattr(tending_module, "RETRY_SECONDS", 0)
    failures = [OSError("broken")]

    def once(stopped: Callable[[], bool]) -> None:
        if failures:
            raise failures.pop()

    index = Recorded(once)
    tending.soon(index)  # type: ignore[arg-type]
    assert index.saved.wait(10)
    assert index.done == ["tend", "tend", "save"]
    assert "vs_1 could not be tended" in caplog.text


def test_what_is_retired_is_saved_and_closed(tending: Tending) -> None:
    index = Recorded()
    tending.retire(index)  # type: ignore[arg-type]
    assert index.closed.wait(10)
    assert index.done == ["save", "close"]
