from __future__ import annotations

import numpy as np

from retrieval.vectors import UNUSED_SECONDS
from tests.retrieval.shelf import FINGERPRINT, Shelf, digest, vector


def test_kept_by_text_and_embedder(shelf: Shelf) -> None:
    shelf.embed(["one", "two"])
    wanted = [digest(text) for text in ("one", "two", "three")]
    assert shelf.vectors.known(FINGERPRINT, wanted) == set(wanted[:2])
    assert shelf.vectors.known("g" * 64, wanted) == set()
    assert shelf.vectors.known(FINGERPRINT, []) == set()
    shelf.vectors.add(FINGERPRINT, {})


def test_the_first_stays(shelf: Shelf) -> None:
    store = shelf.stores.create("ana")
    shelf.embed(["one"])
    shelf.vectors.add(FINGERPRINT, {digest("one"): np.ones(4, np.float32)})
    shelf.attached(store.id, ["one"])
    read = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT).windows.vectors
    np.testing.assert_array_equal(read, [vector("one")])
    assert shelf.count("vectors") == 1


def test_more_than_one_statement_can_take(shelf: Shelf) -> None:
    texts = [f"text {n}" for n in range(1_201)]
    shelf.embed(texts)
    digests = {digest(text) for text in texts}
    assert shelf.vectors.known(FINGERPRINT, digests) == digests


def test_vectors_of_any_layout(shelf: Shelf) -> None:
    store = shelf.stores.create("ana")
    columns = np.asfortranarray(np.arange(8, dtype=np.float64).reshape(2, 4))
    shelf.vectors.add(FINGERPRINT, {digest("one"): columns[0], digest("two"): columns[1]})  # type: ignore[dict-item]
    shelf.attached(store.id, ["one", "two"])
    read = shelf.changes.since(store.id, 0, fingerprint=FINGERPRINT).windows.vectors
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, columns)


def test_those_that_nobody_wants_go_after_a_day(shelf: Shelf) -> None:
    store = shelf.stores.create("ana")
    used = shelf.attached(store.id, ["used"])
    shelf.embed(["in flight", "forgotten"])
    shelf.clock.now += UNUSED_SECONDS - 10
    assert shelf.vectors.purge_unused() == 0
    assert shelf.vectors.known(FINGERPRINT, [digest("in flight")])  # somebody means to use it: it stays another day
    shelf.clock.now += 20
    assert shelf.vectors.purge_unused() == 1
    left = [digest("used"), digest("in flight")]
    assert shelf.vectors.known(FINGERPRINT, [*left, digest("forgotten")]) == set(left)
    shelf.files.delete(used.file_id, None)
    shelf.clock.now += 2 * UNUSED_SECONDS
    assert shelf.vectors.purge_unused() == 2
    assert shelf.count("vectors") == 0
