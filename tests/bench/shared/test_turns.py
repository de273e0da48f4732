from __future__ import annotations

from itertools import count
from typing import Any

from bench.shared.parts import Round
from bench.shared.turns import take_turns

ROUNDS = [Round(number=number) for number in range(4)]


def noting(notes: list[str], name: str) -> Any:
    def part(running: Any, this: Round) -> None:
        notes.append(f"{name}{this.number}{running}")

    part.__name__ = name
    return part


def test_who_was_first_is_second_in_the_next_round() -> None:
    notes: list[str] = []
    both: Any = ["A", "B"]
    assert take_turns([noting(notes, "x"), noting(notes, "y")], both, ROUNDS[:2]) == 2
    assert notes == ["x0A", "x0B", "y0A", "y0B", "x1B", "x1A", "y1B", "y1A"]


def test_no_round_is_begun_that_would_end_too_late() -> None:
    notes: list[str] = []
    both: Any = ["A"]
    ticks = count(0, 10)  # each look at the clock is ten seconds after the one before: a round takes as long
    assert take_turns([noting(notes, "")], both, ROUNDS, ends_at=45, clock=lambda: next(ticks)) == 2
    assert notes == ["0A", "1A"]


def test_there_is_always_one() -> None:
    notes: list[str] = []
    both: Any = ["A"]
    assert take_turns([noting(notes, "")], both, ROUNDS, ends_at=0, clock=lambda: 1.0) == 1
    assert notes == ["0A"]


def test_whoever_waits_is_told_what_takes_so_long() -> None:
    told: list[str] = []
    both: Any = ["A"]
    ticks = count(0, 10)
    parts = [noting([], "chat"), noting([], "search")]
    take_turns(parts, both, ROUNDS[:2], clock=lambda: next(ticks), told=told.append)
    assert told == ["round 1: chat 10 s, search 10 s", "round 2: chat 10 s, search 10 s"]
