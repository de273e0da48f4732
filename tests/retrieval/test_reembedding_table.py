from __future__ import annotations

import numpy as np
import pytest

from retrieval.errors import RetrievalError, StoreNotFound
from retrieval.reembedding_table import ReembeddingJob
from retrieval.upkeep import sweep
from retrieval.vector_store import VectorStore
from tests.retrieval.shelf import FINGERPRINT, Shelf, digest, vector

NEW = "0" * 64  # sorts before the old one, as the third sorts behind it
THIRD = "z" * 64


@pytest.fixture
def store(shelf: Shelf) -> VectorStore:
    return shelf.stores.create("ana", name="docs")


def claimed(shelf: Shelf, fingerprint: str = NEW) -> ReembeddingJob:
    job = shelf.reembeddings.claim("test", fingerprint)
    assert job
    return job


def embed_all(shelf: Shelf, job: ReembeddingJob, batch: int = 2) -> int:
    done, last = 0, None
    while some := shelf.reembeddings.lacking(job, batch, after=last):
        shelf.embed([one.text for one in some], job.fingerprint)
        assert shelf.reembeddings.add(job, {one.chunk_id: [digest(one.text)] for one in some})
        done, last = done + len(some), some[-1]
    return done


def test_the_old_vectors_answer_until_the_switch(shelf: Shelf, store: VectorStore) -> None:
    texts = [f"text {n}" for n in range(5)]
    file = shelf.attached(store.id, texts)
    old = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT)
    assert shelf.reembeddings.needed(NEW) == [store.id]
    assert shelf.reembeddings.needed(FINGERPRINT) == []
    shelf.reembeddings.request(store.id, NEW)
    assert shelf.reembeddings.needed(NEW) == []
    job = claimed(shelf)
    assert (job.chunks_done, job.chunks_total) == (0, 5)
    assert not shelf.reembeddings.finish(job)
    assert embed_all(shelf, job) == 5
    progress = shelf.reembeddings.progress(store.id)
    assert progress
    assert (progress.chunks_done, progress.chunks_total) == (5, 5)

    assert shelf.stores.get(store.id).fingerprint == FINGERPRINT
    assert shelf.changes.since(store.id, old.generation, fingerprint=FINGERPRINT).generation == old.generation
    assert len(shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT).windows.chunk_ids) == 5
    assert len(shelf.changes.since(store.id, 0, fingerprint=NEW).windows.chunk_ids) == 0

    assert shelf.reembeddings.finish(job)
    assert not shelf.reembeddings.finish(job)
    assert shelf.reembeddings.progress(store.id) is None
    assert shelf.reembeddings.all() == []
    new = shelf.changes.since(store.id, old.generation, fingerprint=NEW)
    assert new.full
    assert {one.chunk_id for one in new.chunks} == {one.chunk_id for one in old.chunks}
    by_chunk = dict(zip(new.windows.chunk_ids.tolist(), new.windows.vectors, strict=True))
    for one in new.chunks:
        np.testing.assert_array_equal(by_chunk[one.chunk_id], vector(one.text, NEW))
    assert shelf.count("windows") == 5
    assert shelf.attachments.get(store.id, file.file_id).usage_bytes == file.usage_bytes
    assert shelf.reembeddings.needed(NEW) == []


def test_what_comes_and_goes_meanwhile(shelf: Shelf, store: VectorStore) -> None:
    goes = shelf.attached(store.id, ["goes"])
    shelf.attached(store.id, ["stays", "too"])
    shelf.reembeddings.request(store.id, NEW)
    job = claimed(shelf)
    some = shelf.reembeddings.lacking(job, 10)
    comes = shelf.attached(store.id, ["comes"], fingerprint=NEW)
    shelf.files.delete(goes.file_id, None)
    shelf.embed([one.text for one in some], NEW)
    assert shelf.reembeddings.add(job, {one.chunk_id: [digest(one.text)] for one in some})
    assert shelf.reembeddings.add(job, {one.chunk_id: [digest(one.text)] for one in some})  # again: no second windows
    assert shelf.reembeddings.lacking(job, 10) == []
    assert shelf.reembeddings.finish(job)
    delta = shelf.changes.since(store.id, 0, fingerprint=NEW)
    assert sorted(one.text for one in delta.chunks) == ["comes", "stays", "too"]
    assert sorted(delta.windows.chunk_ids.tolist()) == sorted(one.chunk_id for one in delta.chunks)
    used = shelf.attachments.get(store.id, comes.file_id).usage_bytes
    assert used == len("comes") + 16 == comes.usage_bytes


def test_a_file_of_the_old_embedder_that_comes_late_is_not_left_out(shelf: Shelf, store: VectorStore) -> None:
    shelf.attached(store.id, ["first"])
    shelf.reembeddings.request(store.id, NEW)
    job = claimed(shelf)
    embed_all(shelf, job)
    shelf.attached(store.id, ["late"])
    assert not shelf.reembeddings.finish(job)
    assert [one.text for one in shelf.reembeddings.lacking(job, 10)] == ["late"]
    embed_all(shelf, job)
    assert shelf.reembeddings.finish(job)


def test_going_on_where_a_killed_one_stopped(shelf: Shelf, store: VectorStore) -> None:
    shelf.attached(store.id, [f"text {n}" for n in range(5)])
    shelf.reembeddings.request(store.id, NEW)
    dead = claimed(shelf)
    some = shelf.reembeddings.lacking(dead, 2)
    shelf.embed([one.text for one in some], NEW)
    shelf.reembeddings.add(dead, {one.chunk_id: [digest(one.text)] for one in some})
    assert shelf.reembeddings.claim("other", NEW) is None
    shelf.clock.now += 61
    job = shelf.reembeddings.claim("other", NEW)
    assert job
    assert (job.chunks_done, job.chunks_total) == (2, 5)
    assert not shelf.reembeddings.add(dead, {})
    assert not shelf.reembeddings.finish(dead)
    assert embed_all(shelf, job) == 3
    assert shelf.reembeddings.finish(job)


def test_another_embedder_again_before_the_end(shelf: Shelf, store: VectorStore) -> None:
    shelf.attached(store.id, ["one", "two"])
    shelf.reembeddings.request(store.id, NEW)
    job = claimed(shelf)
    (first,) = shelf.reembeddings.lacking(job, 1)
    shelf.embed([first.text], NEW)
    shelf.reembeddings.add(job, {first.chunk_id: [digest(first.text)]})
    shelf.attached(store.id, ["new only"], fingerprint=NEW)

    assert shelf.reembeddings.needed(FINGERPRINT) == [store.id]  # back to the old one: one file lacks its vectors
    shelf.reembeddings.request(store.id, THIRD)
    assert not shelf.reembeddings.add(job, {})
    assert shelf.reembeddings.claim("test", NEW) is None
    third = claimed(shelf, THIRD)
    assert third.chunks_done == 0
    assert embed_all(shelf, third) == 3
    assert shelf.reembeddings.finish(third)
    delta = shelf.changes.since(store.id, 0, fingerprint=THIRD)
    assert len(delta.windows.chunk_ids) == len(delta.chunks) == 3
    assert shelf.count("windows") == 3
    assert shelf.stores.get(store.id).usage_bytes == len("onetwonew only") + 3 * 16


def test_what_a_killed_switch_left_is_swept(shelf: Shelf, store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.attached(store.id, ["one", "two"])
    shelf.reembeddings.request(store.id, NEW)
    job = claimed(shelf)
    embed_all(shelf, job)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("retrieval.reembedding_table.clear_superseded", killed)
        with pytest.raises(KeyboardInterrupt):
            shelf.reembeddings.finish(job)
    assert shelf.count("windows") == 4
    assert len(shelf.changes.since(store.id, 0, fingerprint=NEW).windows.chunk_ids) == 2
    sweep(shelf.database, shelf.blobs, clock=shelf.clock)
    assert shelf.count("windows") == 2
    assert len(shelf.changes.since(store.id, 0, fingerprint=NEW).windows.chunk_ids) == 2


def test_the_only_windows_of_a_chunk_are_not_swept(shelf: Shelf, store: VectorStore) -> None:
    """Files read with a new embedder before anybody asked for the store to be embedded anew."""
    shelf.attached(store.id, ["old"])
    shelf.attached(store.id, ["new"], fingerprint=NEW)
    sweep(shelf.database, shelf.blobs, clock=shelf.clock)
    assert shelf.count("windows") == 2
    shelf.reembeddings.request(store.id, NEW)
    job = claimed(shelf)
    assert embed_all(shelf, job) == 1
    sweep(shelf.database, shelf.blobs, clock=shelf.clock)  # nor those of a store on its way
    assert shelf.count("windows") == 3
    assert shelf.reembeddings.finish(job)


def test_requests(shelf: Shelf, store: VectorStore) -> None:
    with pytest.raises(StoreNotFound):
        shelf.reembeddings.request("vs_none", NEW)
    shelf.attached(store.id, ["one"])
    shelf.reembeddings.request(store.id, NEW)
    job = claimed(shelf)
    shelf.reembeddings.request(store.id, NEW)  # the same again: the claim stands
    with pytest.raises(RetrievalError, match="embed them again"):
        shelf.reembeddings.add(job, {one.chunk_id: [digest(one.text)] for one in shelf.reembeddings.lacking(job, 9)})
    assert shelf.reembeddings.release("test") == 1
    assert not shelf.reembeddings.add(job, {})
    job = claimed(shelf)
    shelf.stores.delete(store.id)
    assert not shelf.reembeddings.add(job, {})
    assert not shelf.reembeddings.finish(job)
    assert shelf.reembeddings.claim("test", NEW) is None
