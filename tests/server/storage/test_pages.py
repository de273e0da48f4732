from __future__ import annotations

import pytest

from retrieval.pages import Order
from retrieval.places import Places
from server.storage.errors import CursorUnknown
from server.storage.pages import page_of

LETTERS = "abcdef"


@pytest.mark.parametrize(
    ("asked", "shown", "has_more"),
    [
        ({}, "fedcba", False),
        ({"order": "asc"}, "abcdef", False),
        ({"limit": 2}, "fe", True),
        ({"limit": 2, "after": "e"}, "dc", True),
        ({"limit": 2, "after": "c"}, "ba", False),
        ({"order": "asc", "limit": 6}, "abcdef", False),
        ({"order": "asc", "after": "f"}, "", False),
        ({"order": "asc", "before": "d", "limit": 2}, "bc", True),
        ({"order": "asc", "before": "c", "limit": 2}, "ab", False),
        ({"order": "asc", "after": "a", "before": "e", "limit": 2}, "bc", True),
    ],
)
def test_pages(asked: dict[str, object], shown: str, has_more: bool) -> None:
    page = page_of(LETTERS, str, **asked)  # type: ignore[arg-type]  # the cases are checked above
    assert ("".join(page.items), page.has_more) == (shown, has_more)


def test_walking_by_after_sees_everything_once() -> None:
    seen, after = "", None
    while True:
        page = page_of(LETTERS, str, limit=4, after=after)
        seen += "".join(page.items)
        if not page.has_more:
            break
        after = page.items[-1]
    assert seen == "fedcba"


def test_an_unknown_cursor_is_told() -> None:
    with pytest.raises(CursorUnknown, match="'z' is not in this list"):
        page_of(LETTERS, str, after="z")


@pytest.mark.parametrize(("order", "rest"), [("desc", "dcba"), ("asc", "cdef")])
def test_the_way_goes_on_where_a_page_was_deleted(order: Order, rest: str) -> None:
    places = Places()

    def walk(letters: str, **cursors: str) -> str:
        page = page_of(letters, str, limit=2, order=order, **cursors, key_of=lambda one: (one,), places=places)
        return "".join(page.items)

    first = walk(LETTERS)
    left = "".join(letter for letter in LETTERS if letter not in first)
    assert walk(left, after=first[-1]) == rest[:2]
    assert walk(left, before=rest[1]) == rest[0]
    assert walk(left.replace(rest[1], ""), before=rest[1]) == rest[0]
    assert walk(left, before=first[0]) == ""
    with pytest.raises(CursorUnknown):
        walk(left, after="z")  # no page had it
