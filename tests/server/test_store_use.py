"""The end of a store moves with its searches, seldom and beside them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrieval.stores import Stores
from server import store_use
from server.background import Background
from server.services import Services
from server.store_use import StoreUse


class Noting(Stores):
    """Notes which stores were touched."""

    def __init__(self, services: Services) -> None:
        super().__init__(services.database)
        self.touched: list[str] = []

    def touch(self, store_id: str) -> None:
        self.touched.append(store_id)
        super().touch(store_id)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def test_a_store_is_looked_at_once_in_a_while(services: Services, pool: ThreadPoolExecutor) -> None:
    stores, background = Noting(services), Background()
    now = 0.0
    use = StoreUse(stores, background, pool, clock=lambda: now)
    use.note(["vs_1", "vs_2"])
    use.note(["vs_1"])
    await background.drain(10)
    assert stores.touched == ["vs_1", "vs_2"]
    now = store_use.PAUSE_SECONDS
    use.note(["vs_2", "vs_3"])
    await background.drain(10)
    assert stores.touched == ["vs_1", "vs_2", "vs_2", "vs_3"]


async def test_what_is_remembered_is_bounded(
    services: Services, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_use, "MOST_STORES", 3)
    stores, background = Noting(services), Background()
    use = StoreUse(stores, background, pool, clock=lambda: 0.0)
    for number in range(8):
        use.note([f"vs_{number}"])
    assert len(use._used_at) <= 3
    await background.drain(10)
    assert stores.touched == [f"vs_{number}" for number in range(8)]
