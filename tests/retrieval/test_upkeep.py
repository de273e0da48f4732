from __future__ import annotations

from dataclasses import astuple

import pytest

from retrieval.upkeep import REMOVAL_SECONDS, UPLOAD_SECONDS, Swept, sweep
from retrieval.vectors import UNUSED_SECONDS
from tests.retrieval.shelf import FINGERPRINT, Shelf


def swept(shelf: Shelf) -> Swept:
    return sweep(shelf.database, shelf.blobs, clock=shelf.clock)


def test_nothing_to_do(shelf: Shelf) -> None:
    store = shelf.stores.create("ana")
    shelf.attached(store.id)
    before = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT)
    assert set(astuple(swept(shelf))) == {0}
    assert shelf.changes.since(store.id, before.generation, fingerprint=FINGERPRINT).full is False


def test_an_upload_that_was_killed_goes_after_an_hour(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shelf.files, "_complete", killed)
        patched.setattr(shelf.files, "_give_up", killed)
        with pytest.raises(KeyboardInterrupt):
            shelf.upload("never acknowledged")
    assert shelf.files.list(None).items == ()
    assert len(shelf.blobs.keys()) == 1
    assert swept(shelf).uploads == 0  # it may be under way
    assert len(shelf.blobs.keys()) == 1
    shelf.clock.now += UPLOAD_SECONDS + 1
    found = swept(shelf)
    assert (found.uploads, found.contents) == (1, 1)
    assert shelf.blobs.keys() == []
    assert shelf.count("files") == shelf.count("file_contents") == 0


def test_a_delete_that_was_killed_leaves_bytes_to_be_swept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shelf.upload()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("retrieval.contents.drop_unused", killed)
        with pytest.raises(KeyboardInterrupt):
            shelf.files.delete(file.id, "ana")
    assert len(shelf.blobs.keys()) == 1
    assert swept(shelf).contents == 1
    assert shelf.blobs.keys() == []


def test_bytes_without_a_row_go(shelf: Shelf) -> None:
    with shelf.blobs.staging() as folder:
        (folder / "content").write_text("x")
        shelf.blobs.commit(folder, f"files/{'a' * 64}")
    with shelf.blobs.staging() as folder:
        (folder / "other").write_text("an adapter's")
        shelf.blobs.commit(folder, f"adapters/{'a' * 64}")
    assert swept(shelf).contents == 1
    assert shelf.blobs.keys() == [f"adapters/{'a' * 64}"]


def test_old_removals_go_and_indexes_of_before_are_built_anew(shelf: Shelf) -> None:
    store = shelf.stores.create("ana")
    first, second = shelf.attached(store.id), shelf.attached(store.id)
    old = shelf.stores.get(store.id).generation
    shelf.attachments.detach(store.id, first.file_id)
    shelf.clock.now += REMOVAL_SECONDS
    between = shelf.stores.get(store.id).generation
    shelf.attachments.detach(store.id, second.file_id)
    shelf.clock.now += 1
    assert swept(shelf).removals == 1
    assert shelf.changes.since(store.id, old, fingerprint=None).full
    delta = shelf.changes.since(store.id, between, fingerprint=None)
    assert (delta.full, list(delta.removed)) == (False, [second.number])


def test_everything_at_once(shelf: Shelf) -> None:
    store = shelf.stores.create("ana", expires_days=1)
    shelf.attached(store.id)
    file = shelf.upload("short", expires_seconds=3_600)
    shelf.attachments.attach(shelf.stores.create("ana").id, file.id)
    shelf.clock.now += UNUSED_SECONDS + 1
    found = swept(shelf)
    assert (found.files, found.stores, found.vectors) == (1, 1, 2)
    assert len(shelf.blobs.keys()) == 1  # the expired store's file is a file still
    assert shelf.count("chunks") == shelf.count("vectors") == 0
