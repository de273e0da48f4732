"""OpenAI's way through a list: `limit`, `order`, and `after` or `before` one of its ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from retrieval.pages import Order, Page
from retrieval.places import Places
from server.storage.errors import CursorUnknown

T = TypeVar("T")
READER = "everybody"  # these lists are the same for whoever may see them


def page_of(
    oldest_first: Sequence[T],
    id_of: Callable[[T], str],
    *,
    limit: int = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
    key_of: Callable[[T], tuple[Any, ...]] | None = None,
    places: Places | None = None,
) -> Page[T]:
    """The first `limit` items behind `after`, or the last ones ahead of `before`. Raises CursorUnknown.

    places: of earlier pages, so that the way goes on where a cursor's item has been deleted since: a loop over a list
    that deletes what it is given does that. It needs `key_of`, by which the list is sorted.
    """
    items = list(oldest_first) if order == "asc" else list(reversed(oldest_first))
    ids = [id_of(item) for item in items]

    def around(cursor: str) -> tuple[int, int]:
        """How many items stand ahead of the cursor's, and how many with it."""
        if cursor in ids:
            ahead = ids.index(cursor)
            return ahead, ahead + 1
        stood = None if places is None or key_of is None else places.find(READER, cursor)
        if stood is None or key_of is None:
            raise CursorUnknown(f"{cursor[:96]!r} is not in this list; give an id that an earlier page had")
        ahead = sum(key_of(item) < stood if order == "asc" else key_of(item) > stood for item in items)
        return ahead, ahead

    start = around(after)[1] if after else 0
    end = around(before)[0] if before else len(items)
    within = items[start:end]
    shown = within[-limit:] if before and not after else within[:limit]
    if places is not None and key_of is not None:
        for item in (*shown[:1], *shown[-1:]):
            places.note(READER, id_of(item), key_of(item))
    return Page(items=tuple(shown), has_more=len(within) > len(shown))
