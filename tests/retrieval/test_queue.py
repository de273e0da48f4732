from __future__ import annotations

import threading
from collections import Counter

import pytest

from retrieval.attachments import Entry
from retrieval.errors import RetrievalError, StoreFileNotFound
from retrieval.queue import Job, Pending, Queue
from retrieval.vector_store import VectorStore
from server.storage import feed
from server.storage.feed import Feed
from tests.retrieval.shelf import FINGERPRINT, Shelf, chunk, digest


@pytest.fixture
def store(shelf: Shelf) -> VectorStore:
    return shelf.stores.create("ana", name="docs")


def attach(shelf: Shelf, store: VectorStore, text: str = "some text") -> str:
    file = shelf.upload(text)
    shelf.attachments.attach(store.id, file.id)
    return file.id


def claimed(shelf: Shelf, holder: str = "test") -> Job:
    job = shelf.queue.claim(holder)
    assert job
    return job


def test_the_longest_due_first_and_each_once(shelf: Shelf, store: VectorStore) -> None:
    ids = []
    for n in range(3):
        shelf.clock.now += 1
        ids.append(attach(shelf, store, f"text {n}"))
    first = claimed(shelf)
    assert (first.file_id, first.filename, first.owner, first.attempts) == (ids[0], "notes.txt", "ana", 1)
    assert shelf.files.path_of(first.digest).read_text() == "text 0"
    assert [job.file_id for job in shelf.queue.claim_many("test", 5)] == ids[1:]
    assert shelf.queue.claim("test") is None
    assert not shelf.queue.is_due()


def test_a_claim_that_is_not_renewed_is_another_s(shelf: Shelf, store: VectorStore) -> None:
    attach(shelf, store)
    first = claimed(shelf, "one")
    shelf.clock.now += 59
    assert shelf.queue.claim("two") is None
    assert shelf.queue.renew(first, done=3, total=9)
    shown = shelf.attachments.get(store.id, first.file_id).as_object()
    assert shown["progress"] == {"chunks_done": 3, "chunks_total": 9}
    shelf.clock.now += 59
    assert shelf.queue.renew(first)  # progress stays
    assert shelf.attachments.get(store.id, first.file_id).chunks_done == 3
    shelf.clock.now += 60
    second = claimed(shelf, "two")
    assert (second.file_id, second.attempts) == (first.file_id, 2)
    assert not shelf.queue.renew(first)
    assert not shelf.complete(first, ["x"])
    assert not shelf.queue.fail(first, "server_error", "no")
    assert not shelf.queue.retry(first, "no", 1)
    assert not shelf.queue.postpone(first)
    assert shelf.stores.get(store.id).generation == 0
    assert shelf.complete(second, ["x"])


def test_a_second_claim_of_the_same_holder_is_another_claim(shelf: Shelf, store: VectorStore) -> None:
    """A process that hung beyond its lease, and the one that was started in its place, have one name."""
    attach(shelf, store)
    hung = claimed(shelf)
    assert shelf.queue.release("test") == 1
    fresh = claimed(shelf)
    assert not shelf.queue.renew(hung)
    assert not shelf.complete(hung, ["old"])
    assert shelf.complete(fresh, ["new"])


def test_completed_is_visible_whole(shelf: Shelf, store: VectorStore) -> None:
    file_id = attach(shelf, store)
    job = claimed(shelf)
    shelf.embed(["w1", "w2", "w3"])
    chunks = [chunk("first é", 0), chunk("second", 10)]
    done = shelf.queue.complete(job, chunks, [[digest("w1")], [digest("w2"), digest("w3")]], FINGERPRINT)
    assert done
    found = shelf.attachments.get(store.id, file_id)
    assert (found.status, found.chunks_done, found.chunks_total) == ("completed", 2, 2)
    assert found.usage_bytes == len("first é".encode()) + len("second") + 3 * 4 * 4
    delta = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT)
    assert [one.text for one in delta.chunks] == ["first é", "second"]
    first, second = (one.chunk_id for one in delta.chunks)
    assert list(delta.windows.chunk_ids) == [first, second, second]
    passage = shelf.passages.load([second])[second]
    assert (passage.position, passage.page, passage.heading) == (1, 2, ("Part", "Chapter"))
    assert (passage.start, passage.end, passage.language, passage.tokens) == (10, 16, "en", 1)
    assert (passage.filename, passage.file_id, passage.store_id) == ("notes.txt", file_id, store.id)
    assert not shelf.complete(job, ["again"])
    assert shelf.count("chunks") == 2


def test_nothing_is_visible_before(shelf: Shelf, store: VectorStore) -> None:
    attach(shelf, store)
    job = claimed(shelf)
    shelf.embed(["one"])
    with pytest.raises(RetrievalError, match="embed them again"):
        shelf.queue.complete(job, [chunk("one"), chunk("two")], [[digest("one")], [digest("two")]], FINGERPRINT)
    assert shelf.stores.get(store.id).generation == 0
    assert shelf.count("chunks") == shelf.count("windows") == 0
    assert shelf.attachments.get(store.id, job.file_id).status == "in_progress"
    assert shelf.complete(job, ["one", "two"])  # it is still the job's


def test_text_that_databases_refuse_keeps_its_length(shelf: Shelf, store: VectorStore) -> None:
    attach(shelf, store)
    text = "a\0b\ud83dc"
    shelf.embed(["w"])
    assert shelf.queue.complete(claimed(shelf), [chunk(text)], [[digest("w")]], FINGERPRINT)
    (kept,) = shelf.changes.since(store.id, 0, fingerprint=None).chunks
    assert kept.text == "a\ufffdb?c"
    assert len(kept.text) == len(text)


def test_a_cancelled_or_detached_file_is_given_up(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.upload("one")
    batch = shelf.attachments.attach_batch(store.id, [Entry(file_id=file.id)])
    job = claimed(shelf)
    shelf.attachments.cancel_batch(store.id, batch.id)
    assert not shelf.queue.renew(job)
    assert not shelf.complete(job, ["one"])
    assert shelf.attachments.get(store.id, file.id).status == "cancelled"

    attach(shelf, store, "two")
    job = claimed(shelf)
    shelf.attachments.detach(store.id, job.file_id)
    assert not shelf.queue.renew(job)
    assert not shelf.complete(job, ["two"])
    with pytest.raises(StoreFileNotFound):
        shelf.attachments.get(store.id, job.file_id)

    attach(shelf, store, "three")
    job = claimed(shelf)
    shelf.files.delete(job.file_id, "ana")
    assert not shelf.complete(job, ["three"])
    assert shelf.count("chunks") == shelf.count("windows") == 0
    assert shelf.stores.get(store.id).generation == 0


def test_a_failed_file_says_why(shelf: Shelf, store: VectorStore) -> None:
    file_id = attach(shelf, store)
    assert shelf.queue.fail(claimed(shelf), "unsupported_file", "it is a picture; give a PDF with text")
    shown = shelf.attachments.get(store.id, file_id).as_object()
    assert shown["status"] == "failed"
    assert shown["last_error"] == {"code": "unsupported_file", "message": "it is a picture; give a PDF with text"}
    shelf.clock.now += 1_000
    assert not shelf.queue.is_due()


def test_tried_again_later(shelf: Shelf, store: VectorStore) -> None:
    attach(shelf, store)
    assert shelf.queue.retry(claimed(shelf), "the disk was full", 30)
    shelf.clock.now += 29
    assert shelf.queue.claim("test") is None
    assert shelf.queue.pending() == Pending(waiting=0, working=0, later=1, oldest_seconds=0.0)
    shelf.clock.now += 1
    job = claimed(shelf)
    assert job.attempts == 2
    assert job.file.as_object()["last_error"] is None
    assert shelf.complete(job, ["x"])
    assert shelf.attachments.get(store.id, job.file_id).error_message is None


def test_a_long_file_lets_others_go_ahead(shelf: Shelf, store: VectorStore) -> None:
    long = attach(shelf, store, "long")
    job = claimed(shelf)
    assert not shelf.queue.others_wait("test")
    shelf.clock.now += 1
    short = attach(shelf, store, "short")
    assert shelf.queue.others_wait("test")
    shelf.clock.now += 1
    assert shelf.queue.postpone(job)
    assert [one.file_id for one in shelf.queue.claim_many("test", 2)] == [short, long]
    assert shelf.attachments.get(store.id, long).starts == 0  # that time did not count


def test_what_a_dead_holder_had_is_free_at_once(shelf: Shelf, store: VectorStore) -> None:
    for n in range(3):
        attach(shelf, store, f"text {n}")
    shelf.queue.claim_many("dead", 2)
    claimed(shelf, "alive")
    assert shelf.queue.pending() == Pending(waiting=0, working=3, later=0, oldest_seconds=0.0)
    assert shelf.queue.release("dead") == 2
    assert shelf.queue.release("dead") == 0
    shelf.clock.now += 5
    assert shelf.queue.pending() == Pending(waiting=2, working=1, later=0, oldest_seconds=5.0)


def test_ends_are_told_and_progress_is_not(shelf: Shelf, store: VectorStore) -> None:
    queue = Queue(shelf.database, clock=shelf.clock, on_write=lambda connection: feed.bump(connection, "ingestion"))
    for n in range(2):
        attach(shelf, store, f"text {n}")
    job = queue.claim("test")
    assert job
    assert queue.renew(job, done=1, total=2)
    assert Feed(shelf.database).generations() == {}
    shelf.embed(["x"])
    assert queue.complete(job, [chunk("x")], [[digest("x")]], FINGERPRINT)
    assert Feed(shelf.database).generations() == {"ingestion": 1}
    job = queue.claim("test")
    assert job
    queue.fail(job, "invalid_file", "no")
    assert Feed(shelf.database).generations() == {"ingestion": 2}


def test_many_workers_complete_every_file_once_while_some_are_deleted(shelf: Shelf, store: VectorStore) -> None:
    n_files = 40
    ids = [attach(shelf, store, f"text {n}") for n in range(n_files)]
    doomed = ids[::4]
    done: Counter[str] = Counter()
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def work(holder: str) -> None:
        try:
            start.wait()
            while job := shelf.queue.claim(holder):
                if shelf.complete(job, [f"{job.file_id} {n}" for n in range(3)]):
                    done[job.file_id] += 1
        except BaseException as error:
            errors.append(error)

    def delete() -> None:
        try:
            start.wait()
            for file_id in doomed:
                shelf.files.delete(file_id, "ana")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"worker {n}",)) for n in range(3)]
    threads.append(threading.Thread(target=delete))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(done.values()) == {1}
    kept = set(ids) - set(doomed)
    assert kept <= set(done)
    delta = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT)
    assert {state.file_id for state in delta.files} == kept
    assert len(delta.chunks) == len(delta.windows.chunk_ids) == 3 * len(kept)
    assert shelf.count("chunks") == shelf.count("windows") == 3 * len(kept)
    # each change has its own generation: completions, and the deletes of what had been completed
    assert delta.generation == len(done) + len(set(done) & set(doomed))


def test_starts_count_until_something_is_durable(shelf: Shelf, store: VectorStore) -> None:
    attach(shelf, store)
    for n in range(3):
        job = claimed(shelf)
        assert job.starts == n + 1
        shelf.queue.begin(job)
        shelf.queue.release("test")
    job = claimed(shelf)
    shelf.queue.begin(job)
    assert shelf.queue.renew(job, done=1, total=9, further=True)
    shelf.queue.release("test")
    assert claimed(shelf).starts == 1
