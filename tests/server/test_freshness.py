from __future__ import annotations

import pytest

from server.freshness import Freshness
from server.storage.errors import DatabaseUnavailable
from tests.retrieval.shelf import Clock


def test_memory_holds_for_so_long_and_again_once_it_is_confirmed() -> None:
    clock = Clock()
    freshness = Freshness(60, clock=clock)
    freshness.confirm(freshness.now())
    clock.now += 60
    freshness.check()
    clock.now += 0.5
    assert freshness.is_stale()
    with pytest.raises(DatabaseUnavailable, match="more than 60 s"):
        freshness.check()
    freshness.confirm(freshness.now())
    freshness.check()


def test_where_nobody_follows_nothing_grows_old() -> None:
    clock = Clock()
    freshness = Freshness(0, clock=clock)
    clock.now += 1e9
    freshness.check()
