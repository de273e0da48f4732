from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from retrieval import tables
from retrieval.attachments import Entry
from retrieval.errors import (
    BatchNotFound,
    CursorUnknown,
    FileNotFound,
    StoreFileNotFound,
    StoreInvalid,
    StoreNotFound,
)
from retrieval.vector_store import Chunking, VectorStore
from tests.retrieval.shelf import Shelf

STATIC = Chunking(type="static", max_tokens=400, overlap_tokens=100)


@pytest.fixture
def store(shelf: Shelf) -> VectorStore:
    return shelf.stores.create("ana", name="docs")


def test_a_file_in_a_store(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.upload(filename="handbook.pdf")
    attached = shelf.attachments.attach(store.id, file.id, attributes={"year": 2024, "draft": False, "team": "legal"})
    assert attached.as_object() == {
        "id": file.id,
        "object": "vector_store.file",
        "usage_bytes": 0,
        "created_at": 1_000_000,
        "vector_store_id": store.id,
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": {"type": "other"},
        "attributes": {"year": 2024, "draft": False, "team": "legal"},
        "filename": "handbook.pdf",
        "progress": {"chunks_done": 0, "chunks_total": 0},
    }
    assert shelf.attachments.get(store.id, file.id) == attached
    assert type(attached.attributes["year"]) is int


def test_files_take_the_store_s_chunking_unless_they_name_one(shelf: Shelf) -> None:
    store = shelf.stores.create("ana", chunking=STATIC)
    first, second = shelf.upload("a"), shelf.upload("b")
    assert shelf.attachments.attach(store.id, first.id).chunking == STATIC
    assert shelf.attachments.attach(store.id, second.id, chunking=Chunking()).chunking == Chunking()


def test_what_is_not_there_cannot_be_attached(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.upload()
    with pytest.raises(StoreNotFound, match="vs_none"):
        shelf.attachments.attach("vs_none", file.id)
    with pytest.raises(FileNotFound, match="file-none"):
        shelf.attachments.attach(store.id, "file-none")
    with pytest.raises(FileNotFound):
        shelf.attachments.attach(store.id, file.id, owner="bob")
    assert shelf.attachments.attach(store.id, file.id, owner="ana").file_id == file.id


def test_attaching_again_changes_nothing(shelf: Shelf, store: VectorStore) -> None:
    done = shelf.attached(store.id)
    generation = shelf.stores.get(store.id).generation
    assert shelf.attachments.attach(store.id, done.file_id) == done
    assert shelf.attachments.attach(store.id, done.file_id, attributes={}, chunking=Chunking()) == done
    assert shelf.stores.get(store.id).generation == generation


def test_attaching_again_with_other_attributes_sets_them(shelf: Shelf, store: VectorStore) -> None:
    done = shelf.attached(store.id)
    generation = shelf.stores.get(store.id).generation
    again = shelf.attachments.attach(store.id, done.file_id, attributes={"k": "v"})
    assert (again.number, again.status, again.attributes) == (done.number, "completed", {"k": "v"})
    (state,) = shelf.changes.since(store.id, generation, fingerprint=None).files
    assert (state.number, state.attributes) == (done.number, {"k": "v"})


def test_attaching_again_to_be_split_otherwise_reads_it_anew(shelf: Shelf, store: VectorStore) -> None:
    done = shelf.attached(store.id)
    shelf.attachments.set_attributes(store.id, done.file_id, {"k": "v"})
    generation = shelf.stores.get(store.id).generation
    again = shelf.attachments.attach(store.id, done.file_id, chunking=STATIC)
    assert again.number != done.number
    assert (again.status, again.chunking, again.attributes) == ("in_progress", STATIC, {"k": "v"})
    delta = shelf.changes.since(store.id, generation, fingerprint=None)
    assert (list(delta.removed), delta.chunks) == ([done.number], [])
    assert shelf.complete(shelf.queue.claim("test"), ["anew"])


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_what_had_ended_badly_is_tried_again(shelf: Shelf, store: VectorStore, end: str) -> None:
    file = shelf.upload()
    batch = shelf.attachments.attach_batch(store.id, [Entry(file_id=file.id, attributes={"k": 1}, chunking=STATIC)])
    if end == "failed":
        job = shelf.queue.claim("test")
        assert job
        assert shelf.queue.fail(job, "invalid_file", "it is empty")
    else:
        shelf.attachments.cancel_batch(store.id, batch.id)
    assert shelf.attachments.get(store.id, file.id).status == end
    again = shelf.attachments.attach(store.id, file.id)
    assert (again.status, again.attempts, again.error_code, again.attributes) == ("in_progress", 0, None, {"k": 1})
    assert again.chunking == STATIC
    assert shelf.complete(shelf.queue.claim("test"), ["now"])


def test_attributes_are_seen_at_once(shelf: Shelf, store: VectorStore) -> None:
    done = shelf.attached(store.id)
    waiting = shelf.upload("waits")
    shelf.attachments.attach(store.id, waiting.id)
    delta = shelf.changes.since(store.id, 0, fingerprint=None)
    shelf.attachments.set_attributes(store.id, done.file_id, {"k": 2.5})
    passage = shelf.passages.load([delta.chunks[0].chunk_id])[delta.chunks[0].chunk_id]
    assert passage.attributes == {"k": 2.5}
    after = shelf.changes.since(store.id, delta.generation, fingerprint=None)
    assert [(state.number, state.attributes) for state in after.files] == [(done.number, {"k": 2.5})]
    assert shelf.attachments.set_attributes(store.id, waiting.id, {"k": True}).attributes == {"k": True}
    with pytest.raises(StoreFileNotFound):
        shelf.attachments.set_attributes(store.id, "file-none", {})
    with pytest.raises(StoreInvalid) as refused:
        shelf.attachments.set_attributes(store.id, done.file_id, {"k": float("nan")})
    assert refused.value.param == "attributes.k"


def test_a_detached_file_is_gone_from_the_store_alone(shelf: Shelf, store: VectorStore) -> None:
    done = shelf.attached(store.id)
    stays = shelf.attached(store.id, ["stays"])
    delta = shelf.changes.since(store.id, 0, fingerprint=None)
    assert shelf.attachments.detach(store.id, done.file_id) == done
    with pytest.raises(StoreFileNotFound):
        shelf.attachments.detach(store.id, done.file_id)
    found = shelf.passages.load([one.chunk_id for one in delta.chunks])
    assert {passage.file_id for passage in found.values()} == {stays.file_id}
    assert shelf.files.get(done.file_id, "ana").id == done.file_id
    again = shelf.attachments.attach(store.id, done.file_id)
    assert again.number > stays.number


def test_a_detached_file_that_was_never_seen_is_no_change_for_an_index(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.upload()
    shelf.attachments.attach(store.id, file.id)
    shelf.attachments.detach(store.id, file.id)
    assert shelf.stores.get(store.id).generation == 0
    assert shelf.count("removals") == 0


def test_content_in_pages(shelf: Shelf, store: VectorStore) -> None:
    done = shelf.attached(store.id, ["one", "two", "three"])
    page = shelf.attachments.content(store.id, done.file_id, limit=2)
    assert (page.items, page.has_more) == (((0, "one"), (1, "two")), True)
    page = shelf.attachments.content(store.id, done.file_id, limit=2, after=1)
    assert (page.items, page.has_more) == (((2, "three"),), False)
    with pytest.raises(StoreFileNotFound):
        shelf.attachments.content(store.id, "file-none")


def test_pages_of_files(shelf: Shelf, store: VectorStore) -> None:
    ids = [shelf.upload(f"text {n}").id for n in range(5)]
    for file_id in ids:
        shelf.attachments.attach(store.id, file_id)
    assert shelf.complete(shelf.queue.claim("test"), ["x"])

    def shown(**asked: object) -> list[int]:
        return [ids.index(one.file_id) for one in shelf.attachments.list(store.id, **asked).items]  # type: ignore[arg-type]

    assert shown() == [4, 3, 2, 1, 0]
    assert shown(order="asc", after=ids[1], limit=2) == [2, 3]
    assert shown(before=ids[2]) == [4, 3]
    assert shown(status="completed") == [0]
    assert shown(status="in_progress", limit=2, after=ids[3]) == [2, 1]
    # a walk through those in progress goes on behind one that was completed meanwhile
    assert shown(status="in_progress", order="asc", after=ids[0], limit=2) == [1, 2]
    with pytest.raises(CursorUnknown):
        shelf.attachments.list(store.id, after="file-none")
    with pytest.raises(StoreNotFound):
        shelf.attachments.list("vs_none")


def test_a_batch(shelf: Shelf, store: VectorStore) -> None:
    ids = [shelf.upload(f"text {n}").id for n in range(4)]
    batch = shelf.attachments.attach_batch(
        store.id, [Entry(file_id=file_id, attributes={"n": n}) for n, file_id in enumerate(ids)]
    )
    assert batch.as_object() == {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": 1_000_000,
        "vector_store_id": store.id,
        "status": "in_progress",
        "file_counts": {"in_progress": 4, "completed": 0, "cancelled": 0, "failed": 0, "total": 4},
    }
    assert shelf.complete(shelf.queue.claim("test"), ["x"])
    job = shelf.queue.claim("test")
    assert job
    shelf.queue.fail(job, "unsupported_file", "no")
    assert shelf.complete(shelf.queue.claim("test"), ["y"])
    listed = shelf.attachments.list(store.id, batch_id=batch.id, status="completed", order="asc").items
    assert [one.attributes["n"] for one in listed] == [0, 2]
    ended = shelf.attachments.cancel_batch(store.id, batch.id)
    assert ended.file_counts.as_object() == {"in_progress": 0, "completed": 2, "cancelled": 1, "failed": 1, "total": 4}
    assert ended.as_object()["status"] == "cancelled"
    assert shelf.queue.claim("test") is None
    other = shelf.stores.create("ana")
    for look in (shelf.attachments.batch, shelf.attachments.cancel_batch):
        with pytest.raises(BatchNotFound):
            look(other.id, batch.id)
    with pytest.raises(BatchNotFound):
        shelf.attachments.list(other.id, batch_id=batch.id)


def test_a_batch_that_has_ended_is_not_cancelled_any_more(shelf: Shelf, store: VectorStore) -> None:
    batch = shelf.attachments.attach_batch(store.id, [Entry(file_id=shelf.upload().id)])
    assert shelf.complete(shelf.queue.claim("test"), ["x"])
    assert shelf.attachments.cancel_batch(store.id, batch.id).as_object()["status"] == "completed"


def test_a_batch_counts_what_was_there_already(shelf: Shelf, store: VectorStore) -> None:
    done = shelf.attached(store.id)
    batch = shelf.attachments.attach_batch(store.id, [Entry(file_id=done.file_id), Entry(file_id=shelf.upload().id)])
    assert (batch.file_counts.completed, batch.file_counts.in_progress) == (1, 1)
    assert shelf.attachments.get(store.id, done.file_id).number == done.number


def test_a_batch_is_all_or_nothing(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.upload()
    with pytest.raises(FileNotFound, match="file-none"):
        shelf.attachments.attach_batch(store.id, [Entry(file_id=file.id), Entry(file_id="file-none")])
    with pytest.raises(StoreInvalid):
        shelf.attachments.attach_batch(store.id, [Entry(file_id=file.id, attributes={"k": None})])  # type: ignore[dict-item]
    assert shelf.attachments.list(store.id).items == ()
    assert shelf.count("file_batches") == 0


def test_the_size_of_a_batch(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.upload()
    for entries in ([], [Entry(file_id=f"file-{n}") for n in range(2_001)]):
        with pytest.raises(StoreInvalid, match=f"names {len(entries)} files; it may name 1 to 2000"):
            shelf.attachments.attach_batch(store.id, entries)
    twice = Entry(file_id=file.id, attributes={"k": 1})
    assert shelf.attachments.attach_batch(store.id, [twice, twice]).file_counts.in_progress == 1
    with pytest.raises(StoreInvalid, match="twice"):
        shelf.attachments.attach_batch(store.id, [twice, Entry(file_id=file.id)])


def test_two_thousand_files_at_once(shelf: Shelf, store: VectorStore) -> None:
    ids = [f"file-{n:04}" for n in range(2_000)]
    file = shelf.upload()
    with shelf.database.write() as connection:
        row = connection.execute(sa.select(tables.files).where(tables.files.c.id == file.id)).mappings().one()
        connection.execute(tables.files.insert(), [{**row, "id": file_id} for file_id in ids])
    began = time.perf_counter()
    batch = shelf.attachments.attach_batch(store.id, [Entry(file_id=file_id) for file_id in ids])
    assert time.perf_counter() - began < 2  # about 0.1 s alone
    assert batch.file_counts.in_progress == 2_000
    assert len(shelf.queue.claim_many("test", 2_000)) == 2_000
