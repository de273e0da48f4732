"""A file is deleted while another process is at work on it in a store. On SQLite one waits for the other anyway."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import sqlalchemy as sa

from retrieval.generations import take_out
from retrieval.queue import Queue
from retrieval.vector_store import VectorStore
from tests.databases import only_postgresql
from tests.retrieval.shelf import FINGERPRINT, Shelf, chunk, digest

pytestmark = only_postgresql
PATIENCE_SECONDS = 30
WAITS = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")


@pytest.fixture
def store(shelf: Shelf) -> VectorStore:
    return shelf.stores.create("ana", name="docs")


def commit_beside(connection: sa.Connection, work: Callable[[], object]) -> None:
    """Commit when the work, which has begun meanwhile, waits for what this connection has locked; it must end well."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        pause = Event()
        for _ in range(100 * PATIENCE_SECONDS):
            if future.done() or connection.execute(WAITS).scalar_one():
                break
            connection.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
            pause.wait(0.01)
        assert not future.done(), "it waited for nothing"
        connection.commit()
        future.result(PATIENCE_SECONDS)


def test_taken_out_by_both_it_is_told_once(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.attached(store.id)
    (seen,) = shelf.changes.since(store.id, 0, fingerprint=None).files
    with shelf.database._engine.connect() as connection:
        take_out(connection, store.id, [seen.number], shelf.clock())
        commit_beside(connection, lambda: shelf.files.delete(file.file_id, "ana"))
    assert (shelf.count("removals"), shelf.count("vector_store_files"), shelf.count("files")) == (1, 0, 0)


def test_made_visible_meanwhile_its_removal_is_told(shelf: Shelf, store: VectorStore) -> None:
    file = shelf.upload("one")
    shelf.attachments.attach(store.id, file.id)
    job = shelf.queue.claim("test")
    assert job is not None
    shelf.embed(["one"])
    with shelf.database._engine.connect() as connection:
        Queue._complete(shelf.queue, connection, job, [chunk("one")], [[digest("one")]], FINGERPRINT)
        commit_beside(connection, lambda: shelf.files.delete(file.id, "ana"))
    assert (shelf.count("removals"), shelf.count("vector_store_files"), shelf.count("chunks")) == (1, 0, 0)
