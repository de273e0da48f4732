from __future__ import annotations

import os
import threading

import pytest

from server.idle_thread import IdleThread


def test_the_work_is_idle_and_its_questions_are_answered_by_who_waits() -> None:
    idle = IdleThread()
    asked: list[str] = []

    def ask() -> str:
        asked.append(threading.current_thread().name)
        return "go"

    def work() -> tuple[int, str, str]:
        return os.sched_getscheduler(0), threading.current_thread().name, idle.ask(ask)

    assert idle.run(work) == (os.SCHED_IDLE, "idle", "go")
    assert asked == [threading.current_thread().name]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_what_an_answer_raises_is_raised_in_the_work_and_by_it_to_who_waits() -> None:
    idle = IdleThread()

    def refuse() -> None:
        raise KeyError("no")

    def work() -> None:
        try:
            idle.ask(refuse)
        except KeyError as error:
            raise ValueError("told") from error

    with pytest.raises(ValueError, match="told"):
        idle.run(work)


def test_it_may_work_again() -> None:
    idle = IdleThread()
    assert [idle.run(lambda n=n: idle.ask(lambda: n)) for n in range(3)] == [0, 1, 2]  # type: ignore[misc]
