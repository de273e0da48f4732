"""Two servers in turns: who is first in one round is second in the next, so that both see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bench.shared.parts import Part, Round
from bench.shared.running import Running


def take_turns(
    parts: Sequence[Part],
    both: Sequence[Running],
    rounds: Sequence[Round],
    *,
    ends_at: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """How many rounds there were: at least one, and none begun that, as long as the longest, would end too late."""
    longest = 0.0
    for done, this in enumerate(rounds):
        started = clock()
        if done and started + longest > ends_at:
            return done
        for part in parts:
            for running in both if done % 2 == 0 else reversed(both):
                part(running, this)
        longest = max(longest, clock() - started)
    return len(rounds)
