"""The slot policy against an engine that breaks when it is asked for too much, over many seeded random histories."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from adapters.errors import PinLimit
from adapters.residency import Admit, Load, Refuse, Residency, Step, Unload


def test_a_first_request_loads_and_a_second_goes_at_once():
    residency = Residency(slots=2, held=4)
    assert residency.acquire("a", 1, 0.0) == [Load("a", ())]
    assert residency.acquire("a", 2, 0.1) == []
    assert residency.loaded("a", 0.2) == [Admit(1, "a"), Admit(2, "a")]
    assert residency.acquire("a", 3, 0.3) == [Admit(3, "a")]
    assert residency.state("a") == "in_use"


def test_one_load_at_a_time():
    residency = Residency(slots=3, held=3)
    assert residency.acquire("a", 1, 0.0) == [Load("a", ())]
    assert residency.acquire("b", 2, 0.0) == []
    assert residency.loaded("a", 0.1) == [Admit(1, "a"), Load("b", ())]


def test_a_request_for_what_is_held_does_not_wait_for_a_load():
    residency = running(slots=3, held=3, keys="ab")
    idle(residency, "ab")
    assert residency.acquire("c", 1, 5.0) == [Load("c", ())]
    assert residency.acquire("a", 2, 5.0) == [Admit(2, "a")]
    # "d" comes before "b" and will need the third slot once "c" is in
    assert residency.acquire("d", 3, 5.0) == []
    assert residency.acquire("b", 4, 5.0) == []


def test_a_full_memory_gives_up_what_was_used_longest_ago_and_is_idle():
    residency = running(slots=2, held=3, keys="ab")
    idle(residency, "b")
    assert residency.acquire("c", "c", 3.0) == [Load("c", ())]
    residency.loaded("c", 3.1)
    residency.release("c", 3.2)
    assert residency.acquire("d", "d", 4.0) == [Load("d", ("b",))]
    assert residency.occupancy().evictions == 1
    assert residency.state("b") == "absent"


def test_using_a_version_again_makes_it_recent():
    residency = running(slots=2, held=2, keys="ab")
    idle(residency, "ab")
    residency.acquire("a", 1, 2.0)
    residency.release(1, 2.1)
    assert residency.acquire("c", 2, 3.0) == [Load("c", ("b",))]


def test_what_somebody_waits_for_is_not_evicted_while_anything_else_is_idle():
    residency = running(slots=1, held=3, keys="a")
    idle(residency, "a")
    residency.acquire("b", "b", 1.0)
    residency.loaded("b", 1.0)
    residency.release("b", 1.1)
    residency.acquire("c", "c", 1.2)
    residency.loaded("c", 1.2)
    residency.acquire("d", "d", 2.0)
    residency.acquire("a", "waits", 2.0)  # used longest ago
    assert residency.release("c", 3.0) == [Load("d", ("b",))]


def test_two_requests_for_one_version_count_as_one_slot():
    residency = running(slots=3, held=4, keys="b")
    idle(residency, "b")
    residency.acquire("c", 1, 1.0)
    residency.acquire("d", 2, 1.0)
    residency.acquire("d", 3, 1.0)
    assert residency.acquire("b", 4, 1.0) == [Admit(4, "b")]


def test_with_all_slots_in_use_the_next_version_waits_for_the_first_that_ends():
    residency = running(slots=2, held=4, keys="ab")
    assert residency.acquire("c", 1, 1.0) == []
    assert residency.release("b", 1.5) == [Load("c", ())]


def test_requests_pass_a_waiter_only_until_its_patience_ends():
    residency = running(slots=1, held=2, keys="a")
    assert residency.acquire("b", "b", 1.0) == []
    assert residency.acquire("a", "early", 1.9) == [Admit("early", "a")]
    assert residency.acquire("a", "late", 2.0) == []
    assert residency.release("a", 2.1) == []
    assert residency.release("early", 2.2) == [Load("b", ())]
    assert residency.loaded("b", 2.3) == [Admit("b", "b")]
    assert residency.release("b", 2.4) == [Admit("late", "a")]


def test_a_request_for_a_pinned_version_is_never_held_back():
    residency = Residency(slots=2, held=4)
    residency.pin("p", "pin", 0.0)
    assert residency.loaded("p", 0.1) == [Admit("pin", "p")]
    residency.acquire("a", "a", 0.2)
    residency.loaded("a", 0.3)
    residency.acquire("b", "b", 1.0)
    assert residency.acquire("p", 1, 99.0) == [Admit(1, "p")]
    assert residency.acquire("a", 2, 99.0) == []


def test_a_slot_comes_with_everybody_who_waits_for_its_version():
    residency = running(slots=1, held=2, keys="a")
    for ticket, key in enumerate("bcb"):
        assert residency.acquire(key, ticket, 1.0) == []
    assert residency.release("a", 9.0) == [Load("b", ())]
    assert residency.loaded("b", 9.1) == [Admit(0, "b"), Admit(2, "b")]


def test_a_slot_for_a_held_version_comes_with_its_later_waiters_too():
    residency = running(slots=1, held=2, keys="b")
    idle(residency, "b")
    residency.acquire("a", "a", 0.6)
    residency.loaded("a", 0.7)
    for ticket, key in enumerate("bcb"):
        assert residency.acquire(key, ticket, 1.0) == []
    assert residency.release("a", 9.0) == [Admit(0, "b"), Admit(2, "b")]


def test_a_load_is_not_wasted_when_the_request_it_began_for_has_left():
    residency = Residency(slots=1, held=2)
    residency.acquire("a", 1, 0.0)
    residency.acquire("b", 2, 0.0)
    residency.acquire("a", 3, 0.0)
    residency.release(1, 0.1)
    assert residency.loaded("a", 0.2) == [Admit(3, "a")]


def test_a_waiting_client_that_leaves_makes_room_for_the_next():
    residency = running(slots=1, held=2, keys="a")
    residency.acquire("b", "b", 1.0)
    assert residency.acquire("a", "held back", 5.0) == []
    assert residency.release("b", 5.1) == [Admit("held back", "a")]
    assert residency.release("b", 5.2) == []


def test_a_load_whose_requests_have_left_still_ends():
    residency = Residency(slots=1, held=1)
    residency.acquire("a", 1, 0.0)
    assert residency.release(1, 0.1) == []
    assert residency.acquire("b", 2, 0.2) == []  # the slot is being filled
    assert residency.loaded("a", 0.3) == [Load("b", ("a",))]


def test_a_failed_load_refuses_its_waiters_and_lets_the_next_in():
    residency = Residency(slots=1, held=1)
    residency.acquire("a", 1, 0.0)
    residency.acquire("b", 2, 0.0)
    residency.acquire("a", 3, 0.0)
    assert residency.failed("a", 0.1) == [Refuse(1, "a"), Refuse(3, "a"), Load("b", ())]
    assert residency.state("a") == "absent"


def test_the_last_slot_cannot_be_pinned():
    residency = Residency(slots=2, held=2)
    residency.pin("a", "pin a", 0.0)
    with pytest.raises(PinLimit, match="1 of 2 slots"):
        residency.pin("b", "pin b", 0.0)
    assert residency.pin("a", "pin a again", 0.0) == []
    residency.loaded("a", 0.1)
    residency.unpin("a", 0.2)
    assert residency.state("a") == "held"
    assert residency.pin("b", "pin b", 0.3) == [Load("b", ())]


def test_a_pin_waits_for_its_slot_and_then_stays():
    residency = running(slots=2, held=2, keys="ab")
    assert residency.pin("c", "pin", 1.0) == []
    assert residency.release("a", 2.0) == [Load("c", ("a",))]
    residency.loaded("c", 2.1)
    assert residency.acquire("d", "d", 3.0) == []
    assert residency.release("b", 4.0) == [Load("d", ("b",))]
    assert residency.occupancy().pinned == ("c",)


def test_a_pin_whose_load_fails_is_no_pin():
    residency = Residency(slots=2, held=2)
    residency.pin("a", "pin", 0.0)
    assert residency.failed("a", 0.1) == [Refuse("pin", "a")]
    assert residency.occupancy().pinned == ()
    residency.pin("b", "pin", 0.2)


def test_a_retired_version_goes_with_its_last_request():
    residency = running(slots=2, held=4, keys="a")
    residency.acquire("a", "second", 1.0)
    assert residency.retire("a", 1.1) == []
    assert residency.release("a", 1.2) == []
    assert residency.release("second", 1.3) == [Unload("a")]
    assert residency.state("a") == "absent"
    assert residency.acquire("a", "third", 1.4) == [Load("a", ())]


def test_a_retired_version_that_is_idle_goes_at_once_and_one_that_is_kept_stays():
    residency = running(slots=2, held=4, keys="ab")
    residency.retire("a", 1.0)
    residency.keep("a")
    assert residency.release("a", 2.0) == []
    idle(residency, "b")
    assert residency.retire("b", 3.0) == [Unload("b")]


def test_a_retired_version_stays_for_those_who_wait_for_it():
    residency = running(slots=1, held=2, keys="b")
    idle(residency, "b")
    residency.acquire("a", "a", 1.0)
    residency.loaded("a", 1.0)
    residency.acquire("b", "waits", 1.1)
    assert residency.retire("b", 1.2) == []
    assert residency.release("a", 2.0) == [Admit("waits", "b")]
    assert residency.release("waits", 3.0) == [Unload("b")]


def test_files_are_needed_by_all_that_is_held_loading_or_waited_for():
    residency = running(slots=1, held=2, keys="a")
    residency.acquire("b", "b", 1.0)
    assert residency.needed() == {"a", "b"}
    residency.release("a", 2.0)
    assert residency.needed() == {"a", "b"}
    residency.failed("b", 2.1)
    assert residency.needed() == {"a"}


def test_fewer_held_than_slots_is_refused():
    with pytest.raises(ValueError, match="4 slots over 3"):
        Residency(slots=4, held=3)


@pytest.mark.parametrize("seed", range(60))
def test_random_histories_keep_every_promise(seed: int):
    chance = random.Random(seed)
    slots = chance.randint(1, 5)
    world = World(slots, slots + chance.randint(0, 6), chance.choice([0.0, 1.0, 5.0]))
    keys = [f"v{i}" for i in range(chance.randint(1, 14))]
    for _ in range(800):
        world.now += chance.random() * 0.3
        world.act(chance, chance.choice(keys))
        world.check()
    world.finish()


class World:
    """An engine and its clients; it knows what it was told to do and nothing of how the policy decides."""

    def __init__(self, slots: int, held: int, patience: float) -> None:
        self.residency = Residency(slots, held, patience=patience)
        self.slots, self.held, self.patience = slots, held, patience
        self.now = 0.0
        self.tickets = 0
        self.engine: set[str] = set()
        self.loading: str | None = None
        self.running: dict[object, str] = {}
        self.waiting: dict[object, tuple[str, float]] = {}
        self.pins: dict[str, object] = {}
        self.retired: set[str] = set()

    def act(self, chance: random.Random, key: str) -> None:
        deeds = [self.ask] * 6 + [self.end] * 5 + [self.load_ends] * 4 + [self.leave, self.pin, self.unpin, self.retire]
        chance.choice(deeds)(chance, key)

    def ask(self, _chance: random.Random, key: str) -> None:
        ticket = self.new_ticket()
        busy = self.used() | ({self.loading} if self.loading is not None else set())
        slotless = [since for wanted, since in self.waiting.values() if wanted not in busy]
        starved = any(self.now - since >= self.patience for since in slotless)
        full = len(busy) >= self.slots
        self.waiting[ticket] = (key, self.now)
        steps = self.residency.acquire(key, ticket, self.now)
        if starved and full and key not in self.pins:
            assert Admit(ticket, key) not in steps, "passed somebody whose patience had ended"
        if key in self.used() and not starved:
            assert Admit(ticket, key) in steps, "a version in use and nobody starving: it must go at once"
        self.carry_out(steps)

    def end(self, chance: random.Random, _key: str) -> None:
        mine = [ticket for ticket in self.running if ticket not in self.pins.values()]
        if mine:
            ticket = chance.choice(mine)
            del self.running[ticket]
            self.carry_out(self.residency.release(ticket, self.now))

    def leave(self, chance: random.Random, _key: str) -> None:
        mine = [ticket for ticket in self.waiting if ticket not in self.pins.values()]
        if mine:
            ticket = chance.choice(mine)
            del self.waiting[ticket]
            self.carry_out(self.residency.release(ticket, self.now))
            assert self.residency.release(ticket, self.now) == []

    def load_ends(self, chance: random.Random, _key: str) -> None:
        if self.loading is None:
            return
        key, self.loading = self.loading, None
        if chance.random() < 0.15:
            wanted = {ticket for ticket, (waited_for, _) in self.waiting.items() if waited_for == key}
            steps = self.residency.failed(key, self.now)
            assert wanted == {step.ticket for step in steps if isinstance(step, Refuse)}
        else:
            self.engine.add(key)
            steps = self.residency.loaded(key, self.now)
        self.carry_out(steps)

    def pin(self, _chance: random.Random, key: str) -> None:
        if key in self.pins:
            return
        if len(self.pins) >= self.slots - 1:
            with pytest.raises(PinLimit):
                self.residency.pin(key, "too many", self.now)
            return
        ticket = self.pins[key] = self.new_ticket()
        self.waiting[ticket] = (key, self.now)
        self.carry_out(self.residency.pin(key, ticket, self.now))

    def unpin(self, chance: random.Random, _key: str) -> None:
        if self.pins:
            key = chance.choice(sorted(self.pins))
            ticket = self.pins.pop(key)
            self.running.pop(ticket, None)
            self.waiting.pop(ticket, None)
            self.carry_out(self.residency.unpin(key, self.now))

    def retire(self, chance: random.Random, key: str) -> None:
        self.retired.add(key)
        self.carry_out(self.residency.retire(key, self.now))
        if chance.random() < 0.3:
            self.retired.discard(key)
            self.residency.keep(key)

    def carry_out(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Load(key, evict):
                    assert self.loading is None, "two loads at once"
                    for victim in evict:
                        self.take_out(victim)
                    assert key not in self.engine
                    self.loading = key
                    assert len(self.engine) + 1 <= self.held, "the engine would have to evict by itself"
                case Unload(key):
                    assert key in self.retired
                    self.retired.discard(key)
                    self.take_out(key)
                case Admit(ticket, key):
                    assert key in self.engine, "admitted to a version that is not loaded"
                    assert self.waiting.pop(ticket)[0] == key
                    self.running[ticket] = key
                case Refuse(ticket, key):
                    assert self.waiting.pop(ticket)[0] == key
                    if self.pins.get(key) == ticket:
                        del self.pins[key]

    def take_out(self, key: str) -> None:
        assert key not in self.used(), "a version in use was taken away"
        self.engine.remove(key)

    def check(self) -> None:
        busy = self.used() | ({self.loading} if self.loading is not None else set())
        assert len(busy) <= self.slots
        assert len(self.engine | busy) <= self.held
        occupancy = self.residency.occupancy()
        assert set(occupancy.held) == self.engine
        assert occupancy.uses == Counter(self.running.values())
        assert set(occupancy.pinned) == self.pins.keys()
        assert occupancy.waiting == len(self.waiting)
        assert self.residency.needed() == self.engine | busy | {key for key, _ in self.waiting.values()}
        self.check_first_waiter(busy)

    def check_first_waiter(self, busy: set[str]) -> None:
        """First come, first served, and no slot stays empty while somebody could have it."""
        for key, _ in self.waiting.values():
            if key in busy:
                continue
            full = len(busy) >= self.slots
            behind_a_load = key not in self.engine and self.loading is not None
            assert full or behind_a_load, f"{key} could go"
            return
        held_back = [key for key, _ in self.waiting.values() if key != self.loading]
        assert not held_back, "held back though nobody waits for a slot"

    def finish(self) -> None:
        """With loads and requests that end, everybody who waits is served."""
        chance = random.Random(0)
        for key in list(self.pins):
            self.unpin(chance, key)
        for _ in range(4 * (len(self.waiting) + len(self.running)) + 20):
            self.now += 0.1
            self.load_ends(random.Random(0), "")  # this seed's first number, 0.84, lets the load succeed
            self.end(chance, "")
            self.check()
        assert not self.waiting
        assert not self.running

    def used(self) -> set[str]:
        return set(self.running.values())

    def new_ticket(self) -> int:
        self.tickets += 1
        return self.tickets


def running(*, slots: int, held: int, keys: str) -> Residency:
    """A policy at time 0 where every key has one request, whose ticket is the key."""
    residency = Residency(slots, held)
    for key in keys:
        residency.acquire(key, key, 0.0)
        residency.loaded(key, 0.0)
    return residency


def idle(residency: Residency, keys: str) -> None:
    """End the requests of `running`."""
    for key in keys:
        residency.release(key, 0.5)
