"""Which replicas a request should go to, best first: where its adapter is resident, unless others are much less busy.

A version that is resident nowhere goes to the replica with the fewest versions. Until that one says that it has it,
further requests for it follow the first one: the promise lasts some seconds, in which residency is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R", bound=Hashable)

PROMISE_SECONDS = 10.0  # a load from a cold disk, and the time until it is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of one replica."""

    resident: Collection[str]  # versions that it holds, loads, or has requests waiting for
    busy: int  # requests that it has


class Ranking(Generic[R]):
    """The order of the replicas for each request; remembers what it has promised. One event loop owns it."""

    def __init__(self, *, spill_at: int, clock: Callable[[], float] = time.monotonic) -> None:
        """spill_at: requests from which on a replica counts as busy."""
        self._spill_at = spill_at
        self._clock = clock
        self._promised: dict[str, tuple[R, float]] = {}  # by version: to whom, until when

    def ranks(self, version: str, replicas: Mapping[R, Standing]) -> list[list[R]]:
        """Groups of replicas, best group first; within one, whoever is least busy should be taken.

        version: "" for a request that any replica answers as well as another.
        """
        if not version:
            return [list(replicas)]
        holders = [name for name, standing in replicas.items() if version in standing.resident]
        if not holders:
            holders = [self._promise(version, replicas)]
        idle = [name for name in replicas if replicas[name].busy < self._spill_at]
        groups = (
            [name for name in holders if name in idle],
            idle,
            holders,
            list(replicas),
        )
        return [group for group in groups if group]

    def routed(self, version: str, replica: R) -> None:
        """A request for the version goes to this replica, whatever its rank was."""
        if version in self._promised:
            self._promised[version] = (replica, self._clock() + PROMISE_SECONDS)

    def _promise(self, version: str, replicas: Mapping[R, Standing]) -> R:
        """Who shall load it: who was told to, else who has the fewest versions, and of these the least busy one."""
        now = self._clock()
        self._promised = {key: kept for key, kept in self._promised.items() if kept[1] > now}
        kept = self._promised.get(version)
        if kept is not None and kept[0] in replicas:
            return kept[0]
        expected = {name: set(standing.resident) for name, standing in replicas.items()}
        for other, (name, _) in self._promised.items():
            if name in expected:
                expected[name].add(other)
        chosen = min(replicas, key=lambda name: (len(expected[name]), replicas[name].busy))
        self._promised[version] = (chosen, now + PROMISE_SECONDS)
        return chosen
