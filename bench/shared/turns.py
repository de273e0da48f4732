"""Two servers in turns: who is first in one round is second in the next, so that both see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from bench.shared.parts import Part, Round
from bench.shared.running import Running


def take_turns(
    parts: Sequence[Part],
    both: Sequence[Running],
    rounds: Sequence[Round],
    *,
    ends_at: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
    told: Callable[[str], None] = lambda line: None,
) -> int:
    """How many rounds there were: at least one, and none begun that, as long as the longest, would end too late.

    told: hears of each round, once it is over, how long its parts took: whoever waits sees that something goes on.
    """
    longest = 0.0
    for done, this in enumerate(rounds):
        started = clock()
        if done and started + longest > ends_at:
            return done
        ends = [started]
        for part in parts:
            for running in both if done % 2 == 0 else reversed(both):
                part(running, this)
            ends.append(clock())
        longest = max(longest, ends[-1] - started)
        took = zip(parts, pairwise(ends), strict=True)
        told(f"round {done + 1}: " + ", ".join(f"{part.__name__} {end - began:.0f} s" for part, (began, end) in took))
    return len(rounds)
