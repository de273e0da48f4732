from __future__ import annotations

import pytest
import sqlalchemy as sa

from retrieval.attachments import Entry
from retrieval.errors import CursorUnknown, StoreExpired, StoreInvalid, StoreNotFound
from retrieval.upkeep import sweep
from retrieval.vector_store import Chunking
from tests.retrieval.shelf import FINGERPRINT, Shelf

DAY = 86_400


def test_a_new_store(shelf: Shelf) -> None:
    store = shelf.stores.create("ana", name="docs", description="ours", metadata={"k": "v"}, expires_days=7)
    assert shelf.stores.get(store.id) == store
    assert store.as_object() == {
        "id": store.id,
        "object": "vector_store",
        "created_at": 1_000_000,
        "name": "docs",
        "description": "ours",
        "usage_bytes": 0,
        "file_counts": {"in_progress": 0, "completed": 0, "cancelled": 0, "failed": 0, "total": 0},
        "status": "completed",
        "expires_after": {"anchor": "last_active_at", "days": 7},
        "expires_at": 1_000_000 + 7 * DAY,
        "last_active_at": 1_000_000,
        "metadata": {"k": "v"},
    }


def test_it_counts_its_files(shelf: Shelf) -> None:
    store, other = shelf.stores.create("ana"), shelf.stores.create("ana")
    shelf.attached(store.id, ["one", "três"])
    shelf.attachments.attach(store.id, shelf.upload("waits").id)
    shelf.attachments.attach(other.id, shelf.upload("elsewhere").id)
    found = shelf.stores.get(store.id)
    assert found.usage_bytes == len("one") + len("três".encode()) + 2 * 4 * 4
    assert found.file_counts.as_object() == {"in_progress": 1, "completed": 1, "cancelled": 0, "failed": 0, "total": 2}
    assert found.status == "in_progress"
    listed = {one.id: one for one in shelf.stores.list("ana").items}
    assert listed == {store.id: found, other.id: shelf.stores.get(other.id)}


def test_a_page_of_stores_takes_a_fixed_number_of_statements(shelf: Shelf) -> None:
    for _ in range(30):
        shelf.stores.create("ana")
    said: list[str] = []
    sa.event.listen(shelf.database._engine, "before_cursor_execute", lambda _c, _k, what, *_: said.append(what))
    page = shelf.stores.list("ana", limit=25)
    assert (len(page.items), page.has_more) == (25, True)
    assert len([what for what in said if what.startswith("SELECT")]) == 2


def test_pages(shelf: Shelf) -> None:
    ids = []
    for _ in range(5):
        shelf.clock.now += 1
        ids.append(shelf.stores.create("ana").id)
    stranger = shelf.stores.create("bob").id

    def shown(**asked: object) -> list[int]:
        return [ids.index(store.id) for store in shelf.stores.list("ana", **asked).items]  # type: ignore[arg-type]

    assert shown() == [4, 3, 2, 1, 0]
    assert shown(order="asc", limit=2) == [0, 1]
    assert shown(after=ids[3], limit=2) == [2, 1]
    assert shown(before=ids[1], limit=2) == [3, 2]
    assert shown(order="asc", before=ids[3]) == [0, 1, 2]
    assert shown(order="asc", after=ids[0], before=ids[4], limit=2) == [1, 2]
    for cursor in (stranger, "vs_none"):
        with pytest.raises(CursorUnknown, match=cursor):
            shelf.stores.list("ana", after=cursor)
    assert len(shelf.stores.list(None).items) == 6


def test_found_by_id_or_by_name(shelf: Shelf) -> None:
    docs, twin = shelf.stores.create("ana", name="docs"), shelf.stores.create("bob", name="docs")
    nameless = shelf.stores.create("ana")
    posing = shelf.stores.create("bob", name=docs.id)
    assert {store.id for store in shelf.stores.find("docs")} == {docs.id, twin.id}
    assert [store.id for store in shelf.stores.find(docs.id)] == [docs.id]
    assert [store.id for store in shelf.stores.find(posing.id)] == [posing.id]
    assert shelf.stores.find("") == shelf.stores.find("nothing") == []
    assert [store.id for store in shelf.stores.find(nameless.id)] == [nameless.id]


def test_a_name_of_an_expired_store_can_be_used_again(shelf: Shelf) -> None:
    old = shelf.stores.create("ana", name="docs", expires_days=1)
    shelf.clock.now += DAY
    assert [store.id for store in shelf.stores.find("docs")] == [old.id]
    new = shelf.stores.create("ana", name="docs")
    assert [store.id for store in shelf.stores.find("docs")] == [new.id]


def test_changes(shelf: Shelf) -> None:
    store = shelf.stores.create("ana", name="a", metadata={"k": "v"}, expires_days=3)
    shelf.clock.now += 10
    changed = shelf.stores.update(store.id, changes={"name": "b", "metadata": {"x": "y"}})
    assert (changed.name, changed.metadata, changed.expires_days) == ("b", {"x": "y"}, 3)
    assert changed.last_active_at == shelf.clock.now
    changed = shelf.stores.update(store.id, changes={"expires_after": None, "name": None})
    assert (changed.name, changed.expires_days, changed.expires_at) == ("", None, None)
    changed = shelf.stores.update(store.id, changes={"expires_after": {"anchor": "last_active_at", "days": 1}})
    assert changed.expires_at == shelf.clock.now + DAY
    with pytest.raises(StoreInvalid) as refused:
        shelf.stores.update(store.id, changes={"owner": "bob"})
    assert refused.value.param == "owner"
    with pytest.raises(StoreNotFound):
        shelf.stores.update("vs_none", changes={})


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"name": "x" * 257}, "name"),
        ({"name": "\0"}, "name"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"expires_days": 0}, "expires_after.days"),
        ({"expires_days": 366}, "expires_after.days"),
        (
            {"chunking": Chunking(type="static", max_tokens=99, overlap_tokens=0)},
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
    ],
)
def test_what_cannot_be_a_store(shelf: Shelf, given: dict[str, object], param: str) -> None:
    with pytest.raises(StoreInvalid) as refused:
        shelf.stores.create("ana", **given)  # type: ignore[arg-type]
    assert refused.value.param == param
    assert shelf.count("vector_stores") == 0


def test_a_search_moves_the_end_but_does_not_write_each_time(shelf: Shelf) -> None:
    store = shelf.stores.create("ana", expires_days=1)
    said: list[str] = []
    sa.event.listen(shelf.database._engine, "before_cursor_execute", lambda _c, _k, what, *_: said.append(what))
    shelf.clock.now += 59
    shelf.stores.touch(store.id)
    assert not [what for what in said if what.startswith("UPDATE")]
    shelf.clock.now += 2
    shelf.stores.touch(store.id)
    assert shelf.stores.get(store.id).expires_at == shelf.clock.now + DAY
    shelf.stores.touch("vs_none")


def test_an_expired_store_is_over_at_once_and_loses_its_texts_later(shelf: Shelf) -> None:
    store = shelf.stores.create("ana", expires_days=1)
    kept = shelf.stores.create("ana")
    done = shelf.attached(store.id)
    stays = shelf.attached(kept.id)
    waiting = shelf.upload("waits")
    shelf.attachments.attach(store.id, waiting.id)
    job = shelf.queue.claim("test")
    chunk_ids = [one.chunk_id for one in shelf.changes.since(store.id, 0, fingerprint=None).chunks]
    shelf.clock.now += DAY

    assert shelf.stores.get(store.id).status == "expired"
    state = shelf.changes.state(store.id)
    assert state
    assert state.expired
    assert shelf.passages.load(chunk_ids) == {}
    shelf.stores.touch(store.id)  # does not bring it back
    with pytest.raises(StoreExpired):
        shelf.attachments.attach(store.id, shelf.upload("late").id)

    assert shelf.stores.expire_due() == 1
    assert shelf.stores.expire_due() == 0
    found = shelf.stores.get(store.id)
    assert (found.status, found.usage_bytes, found.fingerprint) == ("expired", 0, None)
    assert found.file_counts.as_object() == {"in_progress": 0, "completed": 1, "cancelled": 1, "failed": 0, "total": 2}
    assert {one.file_id for one in shelf.attachments.list(store.id).items} == {done.file_id, waiting.id}
    assert job
    assert not shelf.queue.renew(job)
    assert not shelf.complete(job, ["too late"])
    with pytest.raises(StoreExpired):
        shelf.stores.update(store.id, changes={"expires_after": None})
    assert shelf.stores.update(store.id, changes={"name": "over"}).name == "over"
    assert shelf.count("chunks") == shelf.count("windows") == 2
    assert shelf.attachments.content(kept.id, stays.file_id).items == ((0, "one"), (1, "two"))
    delta = shelf.changes.since(store.id, 1, fingerprint=FINGERPRINT)
    assert (delta.full, delta.chunks, len(delta.windows.chunk_ids)) == (True, [], 0)


def test_a_deleted_store_is_gone_with_all_that_it_held_but_no_file(shelf: Shelf) -> None:
    store, other = shelf.stores.create("ana"), shelf.stores.create("ana")
    for _ in range(3):
        file = shelf.attached(store.id)
    kept = shelf.attached(other.id)
    batch = shelf.attachments.attach_batch(store.id, [Entry(file_id=shelf.upload(f"batch {n}").id) for n in range(2)])
    shelf.attachments.detach(store.id, file.file_id)
    shelf.reembeddings.request(store.id, "g" * 64)
    assert shelf.stores.delete(store.id).id == store.id
    for look in (shelf.stores.get, shelf.stores.delete, shelf.attachments.list):
        with pytest.raises(StoreNotFound):
            look(store.id)
    with pytest.raises(StoreNotFound):
        shelf.attachments.batch(store.id, batch.id)
    assert shelf.changes.state(store.id) is None
    assert shelf.stores.find(store.id) == []
    assert shelf.queue.claim("test") is None
    for table, rows in {
        "vector_stores": 1,
        "vector_store_files": 1,
        "chunks": 2,
        "windows": 2,
        "removals": 0,
        "file_batches": 0,
        "reembeddings": 0,
        "files": 6,
    }.items():
        assert shelf.count(table) == rows, table
    assert shelf.attachments.get(other.id, kept.file_id).status == "completed"


def test_a_deletion_that_was_cut_short_is_seen_by_nobody_and_swept(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shelf.stores.create("ana", name="docs")
    file = shelf.attached(store.id)
    shelf.attachments.attach(store.id, shelf.upload("waits").id)
    chunk_ids = [one.chunk_id for one in shelf.changes.since(store.id, 0, fingerprint=None).chunks]

    shelf.reembeddings.request(store.id, "g" * 64)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("retrieval.stores.drop_deleted", killed)
        with pytest.raises(KeyboardInterrupt):
            shelf.stores.delete(store.id)
    assert shelf.stores.find("docs") == shelf.stores.find(store.id) == []
    assert shelf.stores.list("ana").items == ()
    assert shelf.passages.load(chunk_ids) == {}
    assert shelf.queue.claim("test") is None
    assert shelf.reembeddings.claim("test", "g" * 64) is None
    with pytest.raises(StoreNotFound):
        shelf.attachments.get(store.id, file.file_id)
    with pytest.raises(StoreNotFound):
        shelf.attachments.set_attributes(store.id, file.file_id, {})
    sweep(shelf.database, shelf.blobs, clock=shelf.clock)
    assert shelf.count("vector_stores") == shelf.count("chunks") == shelf.count("vector_store_files") == 0
    shelf.files.delete(file.file_id, "ana")
