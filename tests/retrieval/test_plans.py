"""What is done often never walks a whole table: SQLite's plan of every statement, over a store with some files."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from retrieval import tables
from retrieval.store_names import StoreNames
from tests.databases import only_sqlite
from tests.retrieval.shelf import FINGERPRINT, Shelf

pytestmark = only_sqlite  # PostgreSQL chooses by what it has counted, which tests have too little of

NEW = "0" * 64
TABLES = {table.name for table in tables.metadata.tables.values()}


def search(shelf: Shelf, store_id: str) -> None:
    state = shelf.changes.states([store_id, "vs_other"])[store_id]
    StoreNames(shelf.database).find_all([store_id, "docs", "other"])
    shelf.stores.touch(store_id)
    shelf.stores.get(store_id)
    shelf.changes.since(store_id, state.generation - 1, fingerprint=FINGERPRINT)
    shelf.passages.load(range(1, 200))


def ingest(shelf: Shelf, store_id: str) -> None:
    shelf.attached(store_id, ["some", "more"])
    shelf.vectors.known(FINGERPRINT, [str(n) for n in range(100)])


def delete(shelf: Shelf, store_id: str) -> None:
    shelf.files.delete(shelf.attachments.list(store_id).items[0].file_id, "ana")


def lists(shelf: Shelf, store_id: str) -> None:
    file_id = shelf.attachments.list(store_id, limit=2).items[1].file_id
    shelf.attachments.list(store_id, after=file_id)
    shelf.attachments.list(store_id, order="asc", before=file_id)
    store = shelf.stores.list("ana", limit=1).items[0]
    shelf.stores.list("ana", after=store.id)
    shelf.stores.find("docs")
    file = shelf.files.list("ana", limit=1).items[0]
    shelf.files.list("ana", after=file.id)
    shelf.files.list(None, limit=2)
    shelf.attachments.content(store_id, file_id)


def reembed(shelf: Shelf, store_id: str) -> None:
    shelf.reembeddings.request(store_id, NEW)
    job = shelf.reembeddings.claim("test", NEW)
    assert job
    first = shelf.reembeddings.lacking(job, 1)[0]
    shelf.reembeddings.lacking(job, 1, after=first)
    shelf.reembeddings.finish(job)


def expire(shelf: Shelf, _: str) -> None:
    shelf.clock.now += 10**9
    shelf.files.purge_expired()
    shelf.vectors.purge_unused()


@pytest.mark.parametrize("way", [search, ingest, delete, lists, reembed, expire])
def test_no_table_is_walked(shelf: Shelf, way: Callable[[Shelf, str], None]) -> None:
    store = shelf.stores.create("ana", name="docs")
    for n in range(4):
        shelf.attached(store.id, [f"{n} one", f"{n} two"])
    said: list[tuple[str, object]] = []
    sa.event.listen(
        shelf.database._engine,
        "before_cursor_execute",
        lambda _c, _k, what, given, *_: said.append((what, given)),
    )
    way(shelf, store.id)
    assert len(said) > 3
    walks = [(step, what) for what, given in list(said) for step in walked(shelf, what, given)]
    assert walks == []


def walked(shelf: Shelf, statement: str, given: object) -> list[str]:
    """The plan's steps that read a table of ours from its beginning to its end, or all that have one status."""
    if statement.split()[0] not in ("SELECT", "UPDATE", "DELETE"):
        return []
    one = given[0] if isinstance(given, list) else given
    with shelf.database.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", one).all()
    steps = [row[3] for row in rows]
    return [
        step
        for step in steps
        if step.split()[1] in TABLES and (step.startswith("SCAN") or "(status=?)" in step) and not bounded(step)
    ]


def bounded(step: str) -> bool:
    """Pages in the order of an index stop at their limit; the few stores being embedded anew are all of their table."""
    return "ix_files_created_at_id" in step or step.split()[1] == "reembeddings"


def test_a_walk_would_be_seen(shelf: Shelf) -> None:
    assert walked(shelf, "SELECT * FROM chunks WHERE text = 'x'", ()) == ["SCAN chunks"]
    assert walked(shelf, "SELECT * FROM chunks WHERE number = 1", ()) == []
    assert walked(shelf, "SELECT * FROM vector_store_files WHERE status = 'completed'", ())
