from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval import heavy
from retrieval.heavy import Heavy, Stopped


def test_without_a_pool_the_caller_does_the_work():
    assert Heavy().run(threading.get_ident) == threading.get_ident()


def test_what_the_work_raises_comes_back():
    def fail() -> None:
        raise TimeoutError("the work's own")

    with ThreadPoolExecutor(1) as pool, pytest.raises(TimeoutError, match="the work's own"):
        Heavy(pool).run(fail)


def test_being_told_to_stop_does_not_wait_for_the_work():
    stop, ends, began = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        stop.set()
        ends.wait(30)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(Stopped):
            Heavy(pool, stop).run(work)
        assert began.is_set()
        ends.set()


def test_nothing_is_begun_once_told_to_stop():
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        Heavy(None, stop).run(lambda: pytest.fail("begun"))


def test_something_else_happens_while_the_work_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heavy, "MEANWHILE_SECONDS", 0.0)
    monkeypatch.setattr(heavy, "TICK_SECONDS", 0.001)
    renewed = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        assert Heavy(pool).run(lambda: renewed.wait(30), renewed.set)
