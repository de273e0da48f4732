"""A store goes from one embedder's vectors to another's, batch by batch, while files come and go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from retrieval.changes import Changes
from retrieval.reembedding import Reembedding
from retrieval.reembedding_table import Reembeddings
from server.storage.database import Database
from tests.retrieval.works import Hashing, House, prose


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with closing(Database(f"sqlite:///{tmp_path / 'manyhats.db'}")) as database:
        database.migrate()
        yield House(database, tmp_path)


@pytest.fixture
def table(house: House) -> Reembeddings:
    return Reembeddings(house.database, clock=lambda: house.now)


class Other(Hashing):
    """Another model: other vectors, a smaller window."""

    def __init__(self) -> None:
        super().__init__(fingerprint="other", window_tokens=64)

    def vector(self, text: str) -> np.ndarray:
        return super().vector(f"other {text}")


def worker(house: House, table: Reembeddings, embedder: Hashing) -> Reembedding:
    return Reembedding(table, house.vectors, embedder, holder="worker")


def test_no_store_waits(house: House, table: Reembeddings) -> None:
    assert not worker(house, table, Other()).step()


def test_all_chunks_get_vectors_of_the_other_model_and_nothing_is_embedded_twice(
    house: House, table: Reembeddings
) -> None:
    house.attach(prose(240 * 80))
    house.work()
    other = Other()
    table.request(house.store_id, "other")
    work = worker(house, table, other)
    steps = 0
    while work.step():
        steps += 1
        if steps == 1:  # the old vectors answer until all the new ones are there
            assert house.stores.get(house.store_id).fingerprint == "hashing"
    assert steps > 2
    assert house.stores.get(house.store_id).fingerprint == "other"
    assert table.all() == []
    delta = Changes(house.database).since(house.store_id, 0, fingerprint="other")
    windows_of = {chunk.chunk_id: chunk.text for chunk in delta.chunks}
    assert set(delta.windows.chunk_ids.tolist()) == set(windows_of)
    assert len(delta.windows.chunk_ids) > 3 * len(windows_of)  # a smaller window: several for each chunk
    assert len(other.embedded) == len(set(other.embedded))
    made = {tuple(np.round(other.vector(text), 5)) for text in other.embedded}
    assert {tuple(row) for row in np.round(delta.windows.vectors, 5)} <= made


def test_a_file_that_is_deleted_meanwhile_does_no_harm(house: House, table: Reembeddings) -> None:
    long = house.attach(prose(240 * 80))
    house.attach(prose(240 * 2, "kept"))
    house.work()
    table.request(house.store_id, "other")
    work = worker(house, table, Other())
    assert work.step()
    house.files.delete(long, None)
    while work.step():
        pass
    assert house.stores.get(house.store_id).fingerprint == "other"


def test_a_file_that_comes_meanwhile_is_embedded_too(house: House, table: Reembeddings) -> None:
    house.attach(prose(240 * 80))
    house.work()
    table.request(house.store_id, "other")
    work = worker(house, table, Other())
    assert work.step()
    house.attach(prose(300, "later"))
    house.work()  # by a process that still has the first model
    for _ in range(40):
        if not work.step():
            break
    assert house.stores.get(house.store_id).fingerprint == "other"
    delta = Changes(house.database).since(house.store_id, 0, fingerprint="other")
    assert set(delta.windows.chunk_ids.tolist()) == {chunk.chunk_id for chunk in delta.chunks}


def test_after_a_kill_it_goes_on_where_it_was(house: House, table: Reembeddings) -> None:
    house.attach(prose(240 * 80))
    house.work()
    other = Other()
    table.request(house.store_id, "other")
    assert worker(house, table, other).step()
    first = set(other.embedded)
    table.release("worker")  # as the next process does at its start
    work = worker(house, table, other)
    while work.step():
        pass
    assert house.stores.get(house.store_id).fingerprint == "other"
    assert first
    assert len(other.embedded) == len(set(other.embedded))
