"""Pages read by SQL are those that the server cuts from a list in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from retrieval import errors
from retrieval.pages import Order, Page
from retrieval.places import Places
from retrieval.vector_store import StoreFile
from server.storage import errors as storage_errors
from server.storage.pages import page_of
from tests.retrieval.shelf import Shelf


def test_every_page_is_as_it_is_elsewhere(shelf: Shelf) -> None:
    for n in range(5):
        shelf.clock.now += n % 2  # some at the same moment
        shelf.stores.create("ana")
    ids = [store.id for store in shelf.stores.list(None, order="asc").items]
    cursors = [None, ids[0], ids[2], ids[4], "vs_none"]
    for order, after, before, limit in product(("asc", "desc"), cursors, cursors, (1, 2, 5, 9)):
        asked = {"order": order, "after": after, "before": before, "limit": limit}
        try:
            expected = page_of(ids, str, **asked)  # type: ignore[arg-type]
        except storage_errors.CursorUnknown:
            with pytest.raises(errors.CursorUnknown, match="vs_none"):
                shelf.stores.list(None, **asked)  # type: ignore[arg-type]
            continue
        got = shelf.stores.list(None, **asked)  # type: ignore[arg-type]
        assert (tuple(store.id for store in got.items), got.has_more) == (expected.items, expected.has_more), asked


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_loop_that_deletes_what_it_lists_comes_to_the_end(shelf: Shelf, order: Order) -> None:
    stores = {shelf.stores.create("ana").id for _ in range(7)}
    full = next(iter(stores))
    files = {shelf.attached(full).file_id for _ in range(7)}

    def walk(some: Callable[[str | None], Page[Any]], delete: Callable[[str], object]) -> set[str]:
        seen: set[str] = set()
        after: str | None = None
        while True:
            page = some(after)
            for item in page.items:
                after = item.file_id if isinstance(item, StoreFile) else item.id
                delete(after)
                seen.add(after)
            if not page.has_more:
                return seen

    def some_attached(after: str | None) -> Page[Any]:
        return shelf.attachments.list(full, limit=3, order=order, after=after)

    def some_files(after: str | None) -> Page[Any]:
        return shelf.files.list(None, limit=3, order=order, after=after)

    def some_stores(after: str | None) -> Page[Any]:
        return shelf.stores.list("ana", limit=3, order=order, after=after)

    assert walk(some_attached, lambda file_id: shelf.attachments.detach(full, file_id)) == files
    assert walk(some_files, lambda file_id: shelf.files.delete(file_id, None)) == files
    assert walk(some_stores, shelf.stores.delete) == stores


def test_what_another_was_given_is_no_place(shelf: Shelf) -> None:
    first = shelf.stores.create("ana").id
    shelf.clock.now += 1
    second = shelf.stores.create("ana").id
    assert [store.id for store in shelf.stores.list("ana", limit=1).items] == [second]
    shelf.stores.delete(second)
    with pytest.raises(errors.CursorUnknown):
        shelf.stores.list("bob", after=second)
    assert [store.id for store in shelf.stores.list("ana", after=second).items] == [first]


def test_only_the_last_places_are_kept() -> None:
    places = Places(most=2)
    for cursor in ("a", "b", "a", "c"):
        places.note("ana", cursor, (cursor,))
    assert [places.find("ana", cursor) for cursor in "abc"] == [("a",), None, ("c",)]
