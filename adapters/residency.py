"""Who may use the engine's adapter slots now: a pure policy, without I/O, threads or a clock of its own.

The engine keeps up to `held` versions in memory and computes with up to `slots` distinct ones at a time; loading one
stops every stream for a moment. So a request asks first, with a ticket of its own, and goes when the policy says so:

    residency = Residency(slots=2, held=8)
    residency.acquire("legal@ab…", ticket=1, now=0.0)   # [Load(key="legal@ab…", evict=())]: load it, then say so
    residency.loaded("legal@ab…", now=0.1)              # [Admit(ticket=1, key="legal@ab…")]: request 1 may go
    residency.acquire("legal@ab…", ticket=2, now=0.2)   # [Admit(ticket=2, …)]: it is there
    residency.release(1, now=0.9)                       # []: request 1 has ended, or its client left while it waited

Every method that changes something returns the steps that follow from it, to be carried out in that order:

- `Load`: unload each of `evict`, then load `key`, then call `loaded` or `failed`. There is one load at a time.
- `Unload`: unload the key.
- `Admit`: the request with this ticket may go; it keeps its version until `release`.
- `Refuse`: the load that this ticket waited for failed; the ticket is forgotten.

What holds after every call: the distinct versions that are in use or being loaded are at most `slots`; those held or
being loaded at most `held`; a version in use is never evicted or unloaded; a pin is a use without an end.

Order: slots are given first come, first served. A version's place comes with all requests that wait for it at that
moment. A new request for a version in use may pass those who wait for a slot, until one of them has waited `patience`
seconds: then it queues, the versions in use run empty, and the slot goes to whoever waited. A pinned version gives its
slot to nobody, so nobody waits on its account.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from adapters.errors import PinLimit

State = Literal["absent", "loading", "held", "in_use"]
Ticket = Hashable  # the caller's, unique while it is waiting or admitted


@dataclass(frozen=True, slots=True)
class Admit:
    ticket: Ticket
    key: str


@dataclass(frozen=True, slots=True)
class Refuse:
    ticket: Ticket
    key: str


@dataclass(frozen=True, slots=True)
class Load:
    key: str
    evict: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unload:
    key: str


Step = Admit | Refuse | Load | Unload


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """The policy's state at one moment, for metrics and status pages."""

    held: tuple[str, ...]  # least recently used first
    uses: dict[str, int]  # requests and pins, by version
    pinned: tuple[str, ...]
    loading: str | None
    waiting: int  # requests
    loads: int  # since the start, also failed ones
    evictions: int
    last_used: dict[str, float]  # of what is held


@dataclass(frozen=True, slots=True)
class _Waiter:
    ticket: Ticket
    key: str
    since: float


class Residency:
    """Slots and memory of one engine. Not thread-safe: one event loop owns it. Keys are engine names."""

    def __init__(self, slots: int, held: int, *, patience: float = 1.0) -> None:
        """slots: distinct versions computing at once; held: versions in the engine's memory, at least as many.

        patience: seconds that a request without a slot is passed by requests for versions in use.
        """
        if not 1 <= slots <= held:
            raise ValueError(f"{slots} slots over {held} held versions; each slot needs its copy in memory")
        self._slots = slots
        self._capacity = held
        self._patience = patience
        self._held: OrderedDict[str, float] = OrderedDict()  # last use by key, oldest first
        self._uses: Counter[str] = Counter()
        self._admitted: dict[Ticket, str] = {}
        self._waiting: dict[Ticket, _Waiter] = {}  # first come first
        self._pins: dict[str, Ticket] = {}
        self._retired: set[str] = set()
        self._loading: str | None = None
        self._loads = 0
        self._evictions = 0

    def acquire(self, key: str, ticket: Ticket, now: float) -> list[Step]:
        """Ask for a version; the ticket is admitted by one of the steps returned here or by a later call."""
        assert ticket not in self._waiting, f"{ticket!r} is waiting already"
        assert ticket not in self._admitted, f"{ticket!r} was admitted already"
        self._waiting[ticket] = _Waiter(ticket, key, now)
        return self._advance(now)

    def release(self, ticket: Ticket, now: float) -> list[Step]:
        """The request has ended, or waits no longer; nothing happens for a ticket that is not known any more."""
        if ticket in self._waiting:
            key = self._waiting.pop(ticket).key
        elif ticket in self._admitted:
            key = self._admitted.pop(ticket)
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key]
            self._touch(key, now)
        else:
            return []
        if self._pins.get(key) == ticket:
            del self._pins[key]
        return self._advance(now)

    def loaded(self, key: str, now: float) -> list[Step]:
        """The engine has the version: everybody who waits for it goes."""
        assert key == self._loading, f"{key!r} was not being loaded"
        self._loading = None
        self._touch(key, now)
        return [*self._admit_all(key, now), *self._advance(now)]

    def failed(self, key: str, now: float) -> list[Step]:
        """The engine did not take the version: its place is free, and everybody who waits for it is refused."""
        assert key == self._loading, f"{key!r} was not being loaded"
        self._loading = None
        refused = [waiter for waiter in self._waiting.values() if waiter.key == key]
        for waiter in refused:
            del self._waiting[waiter.ticket]
        self._pins.pop(key, None)
        return [*(Refuse(waiter.ticket, key) for waiter in refused), *self._advance(now)]

    def pin(self, key: str, ticket: Ticket, now: float) -> list[Step]:
        """Keep a version in a slot until `unpin`; it waits for its slot like a request.

        Nothing happens for a version that is pinned already. Raises PinLimit for the pin that would take the last slot.
        """
        if key in self._pins:
            return []
        if len(self._pins) >= self._slots - 1:
            raise PinLimit(
                f"{key!r} cannot be pinned: {len(self._pins)} of {self._slots} slots are, and one stays free; "
                "unpin another adapter or raise MANYHATS_MAX_ADAPTERS"
            )
        self._pins[key] = ticket
        return self.acquire(key, ticket, now)

    def unpin(self, key: str, now: float) -> list[Step]:
        """Let the version go when its slot is needed; nothing happens when it is not pinned."""
        return self.release(self._pins[key], now) if key in self._pins else []

    def retire(self, key: str, now: float) -> list[Step]:
        """No name means this version any more: it is unloaded when nobody uses it or waits for it."""
        self._retired.add(key)
        return self._advance(now)

    def keep(self, key: str) -> None:
        """Take `retire` back: a name means this version again."""
        self._retired.discard(key)

    def state(self, key: str) -> State:
        """Where the version is now."""
        if self._uses[key]:
            return "in_use"
        if key == self._loading:
            return "loading"
        return "held" if key in self._held else "absent"

    def needed(self) -> set[str]:
        """Versions whose files must stay: held, being loaded, or waited for."""
        waited_for = {waiter.key for waiter in self._waiting.values()}
        return waited_for | self._held.keys() | ({self._loading} if self._loading is not None else set())

    def occupancy(self) -> Occupancy:
        """A copy of the state."""
        return Occupancy(
            held=tuple(self._held),
            uses=dict(self._uses),
            pinned=tuple(self._pins),
            loading=self._loading,
            waiting=len(self._waiting),
            loads=self._loads,
            evictions=self._evictions,
            last_used=dict(self._held),
        )

    def _advance(self, now: float) -> list[Step]:
        """Give what can be given, in the order of asking."""
        steps: list[Step] = []
        free = self._slots - len(self._uses) - (self._loading is not None)
        promised: set[str] = set()  # versions that somebody earlier waits for: each has its slot, or the next one
        starved = False
        for waiter in list(self._waiting.values()):
            key = waiter.key
            if waiter.ticket not in self._waiting or key == self._loading or key in promised:
                continue
            if self._uses[key]:
                if not starved or key in self._pins:
                    steps.append(self._admit(waiter, now))
                continue
            if free <= 0:
                promised.add(key)
                starved = starved or now - waiter.since >= self._patience
            elif key in self._held:
                steps += self._admit_all(key, now)
            elif self._loading is None:
                steps.append(self._load(key))
            else:
                promised.add(key)
            free -= 1
        return [*steps, *self._unload_retired()]

    def _admit_all(self, key: str, now: float) -> list[Step]:
        waiters = [waiter for waiter in self._waiting.values() if waiter.key == key]
        return [self._admit(waiter, now) for waiter in waiters]

    def _admit(self, waiter: _Waiter, now: float) -> Step:
        del self._waiting[waiter.ticket]
        self._admitted[waiter.ticket] = waiter.key
        self._uses[waiter.key] += 1
        self._touch(waiter.key, now)
        return Admit(waiter.ticket, waiter.key)

    def _load(self, key: str) -> Step:
        evict: tuple[str, ...] = ()
        if len(self._held) >= self._capacity:
            evict = (self._least_needed(),)
            del self._held[evict[0]]
            self._evictions += 1
        self._loading = key
        self._loads += 1
        return Load(key, evict)

    def _least_needed(self) -> str:
        """The idle version that was used longest ago, before all one that nobody waits for."""
        waited_for = {waiter.key for waiter in self._waiting.values()}
        idle = [key for key in self._held if not self._uses[key]]
        assert idle, "slots are at most as many as held versions, and one slot is free"
        return next((key for key in idle if key not in waited_for), idle[0])

    def _unload_retired(self) -> list[Step]:
        if not self._retired:
            return []
        waited_for = {waiter.key for waiter in self._waiting.values()}
        idle = [key for key in self._retired if not self._uses[key] and key != self._loading and key not in waited_for]
        self._retired.difference_update(idle)
        return [Unload(key) for key in sorted(idle) if self._held.pop(key, None) is not None]

    def _touch(self, key: str, now: float) -> None:
        self._held[key] = now
        self._held.move_to_end(key)
