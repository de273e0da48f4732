from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import sqlalchemy as sa

from retrieval.changes import Delta
from retrieval.errors import StoreNotFound
from retrieval.vector_store import VectorStore
from tests.retrieval.shelf import FINGERPRINT, Shelf, vector

OTHER = "0" * 64


@pytest.fixture
def store(shelf: Shelf) -> VectorStore:
    return shelf.stores.create("ana", name="docs")


class Follower:
    """An index in three dictionaries: it takes in what it is told and nothing else."""

    def __init__(self) -> None:
        self.generation = 0
        self.chunks: dict[int, tuple[int, str]] = {}
        self.windows: dict[tuple[int, bytes], int] = {}
        self.files: dict[int, dict[str, object]] = {}

    def take_in(self, delta: Delta) -> None:
        if delta.full:
            self.chunks, self.windows, self.files = {}, {}, {}
        gone = set(delta.removed.tolist())
        self.chunks = {key: value for key, value in self.chunks.items() if value[0] not in gone}
        self.windows = {key: number for key, number in self.windows.items() if number not in gone}
        self.files = {number: value for number, value in self.files.items() if number not in gone}
        for one in delta.chunks:
            assert one.chunk_id not in self.chunks, "a chunk came twice"
            self.chunks[one.chunk_id] = (one.number, one.text)
        rows = zip(delta.windows.chunk_ids, delta.windows.numbers, delta.windows.vectors, strict=True)
        self.windows |= {(int(chunk_id), row.tobytes()): int(number) for chunk_id, number, row in rows}
        self.files |= {state.number: dict(state.attributes) for state in delta.files}
        self.generation = delta.generation

    def seen(self) -> tuple[object, ...]:
        return self.chunks, self.windows, self.files


def test_an_empty_store(shelf: Shelf, store: VectorStore) -> None:
    state = shelf.changes.state(store.id)
    assert state
    assert (state.generation, state.fingerprint, state.expired) == (0, None, False)
    delta = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT)
    assert (delta.full, delta.generation, delta.chunks, delta.files) == (True, 0, [], [])
    assert len(delta.windows.chunk_ids) == len(delta.windows.vectors) == len(delta.removed) == 0
    assert shelf.changes.state("vs_none") is None
    with pytest.raises(StoreNotFound):
        shelf.changes.since("vs_none", 0, fingerprint=None)


def test_the_states_of_several_stores_are_of_one_moment(shelf: Shelf, store: VectorStore) -> None:
    other = shelf.stores.create("ana")
    shelf.attached(other.id, ["one"])
    said: list[str] = []
    sa.event.listen(shelf.database._engine, "before_cursor_execute", lambda _c, _k, what, *_: said.append(what))
    states = shelf.changes.states([other.id, store.id, "vs_none"])
    assert len([what for what in said if what.startswith("SELECT")]) == 1
    assert states == {one: shelf.changes.state(one) for one in (store.id, other.id)}
    assert states[other.id].generation > states[store.id].generation == 0
    assert shelf.changes.states([]) == {}


def test_only_what_is_new(shelf: Shelf, store: VectorStore) -> None:
    shelf.attached(store.id, ["one", "two"])
    first = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT)
    assert first.full
    np.testing.assert_array_equal(first.windows.vectors, [vector("one"), vector("two")])
    assert first.windows.chunk_ids.dtype == first.windows.numbers.dtype == first.removed.dtype == np.int64
    assert [one.language for one in first.chunks] == ["en", "en"]

    nothing = shelf.changes.since(store.id, first.generation, fingerprint=FINGERPRINT)
    assert (nothing.full, nothing.generation, nothing.chunks) == (False, first.generation, [])

    new = shelf.attached(store.id, ["three"])
    second = shelf.changes.since(store.id, first.generation, fingerprint=FINGERPRINT)
    assert (second.full, [one.text for one in second.chunks]) == (False, ["three"])
    np.testing.assert_array_equal(second.windows.vectors, [vector("three")])
    assert [state.file_id for state in second.files] == [new.file_id]


def test_parts_that_are_not_asked_for(shelf: Shelf, store: VectorStore) -> None:
    shelf.attached(store.id)
    delta = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT, vectors=False, texts=False)
    assert delta.windows.vectors.shape == (2, 0)
    assert len(delta.windows.chunk_ids) == 2
    assert delta.chunks == []
    assert len(delta.files) == 1


def test_an_index_of_another_database_is_built_anew(shelf: Shelf, store: VectorStore) -> None:
    shelf.attached(store.id)
    delta = shelf.changes.since(store.id, 1_000, fingerprint=FINGERPRINT)
    assert (delta.full, delta.generation, len(delta.chunks)) == (True, 1, 2)


def test_no_vectors_of_another_embedder(shelf: Shelf, store: VectorStore) -> None:
    shelf.attached(store.id, ["one"])
    shelf.attached(store.id, ["two"], fingerprint=OTHER)  # read while the server runs with another embedder
    assert shelf.stores.get(store.id).fingerprint == FINGERPRINT
    theirs = shelf.changes.since(store.id, 0, fingerprint=OTHER)
    assert len(theirs.windows.chunk_ids) == 0
    assert [one.text for one in theirs.chunks] == ["one", "two"]  # found by their words
    ours = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT)
    np.testing.assert_array_equal(ours.windows.vectors, [vector("one")])


def test_an_emptied_store_takes_the_next_embedder(shelf: Shelf, store: VectorStore) -> None:
    old = shelf.attached(store.id, ["one"])
    then = shelf.stores.get(store.id).generation
    shelf.attachments.detach(store.id, old.file_id)
    shelf.attached(store.id, ["two"], fingerprint=OTHER)
    assert shelf.stores.get(store.id).fingerprint == OTHER
    delta = shelf.changes.since(store.id, then, fingerprint=OTHER)
    assert delta.full  # what an index had was of the other
    np.testing.assert_array_equal(delta.windows.vectors, [vector("two", OTHER)])


@pytest.mark.parametrize("seed", range(3))
def test_who_follows_has_what_who_reads_everything_has(shelf: Shelf, store: VectorStore, seed: int) -> None:
    chance = random.Random(seed)
    follower = Follower()
    present: list[str] = []
    for step in range(40):
        match chance.choice(["add", "add", "remove", "attributes", "delete"]):
            case "add":
                present.append(shelf.attached(store.id, [f"{step} {n}" for n in range(chance.randint(1, 3))]).file_id)
            case "remove" if present:
                shelf.attachments.detach(store.id, present.pop(chance.randrange(len(present))))
            case "attributes" if present:
                shelf.attachments.set_attributes(store.id, chance.choice(present), {"step": step})
            case "delete" if present:
                shelf.files.delete(present.pop(chance.randrange(len(present))), "ana")
        if chance.random() < 0.4:
            follower.take_in(shelf.changes.since(store.id, follower.generation, fingerprint=FINGERPRINT))
    follower.take_in(shelf.changes.since(store.id, follower.generation, fingerprint=FINGERPRINT))
    anew = Follower()
    anew.take_in(shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT))
    assert follower.seen() == anew.seen()
    assert len(follower.files) == len(present)
    assert set(follower.chunks) == set(shelf.passages.load(follower.chunks))


def test_a_delta_is_of_one_moment(shelf: Shelf, store: VectorStore) -> None:
    """While files come and go: every delta's windows, chunks and files fit together and to its generation."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def change() -> None:
        try:
            for n in range(25):
                file = shelf.attached(store.id, [f"{n} a", f"{n} b"])
                if n % 2:
                    shelf.attachments.detach(store.id, file.file_id)
        except BaseException as error:
            errors.append(error)
        finally:
            stop.set()

    writer = threading.Thread(target=change)
    writer.start()
    follower, rounds = Follower(), 0
    while not stop.is_set():
        follower.take_in(shelf.changes.since(store.id, follower.generation, fingerprint=FINGERPRINT))
        by_windows = set(follower.windows.values())
        by_chunks = {number for number, _ in follower.chunks.values()}
        assert by_windows == by_chunks == set(follower.files)
        assert len(follower.chunks) == len(follower.windows) == 2 * len(follower.files)
        rounds += 1
    writer.join()
    assert errors == []
    assert rounds > 1
    follower.take_in(shelf.changes.since(store.id, follower.generation, fingerprint=FINGERPRINT))
    assert len(follower.files) == 13
