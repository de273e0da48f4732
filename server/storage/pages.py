"""OpenAI's way through a list: `limit`, `order`, and `after` or `before` one of its ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from retrieval.pages import Order, Page
from server.storage.errors import CursorUnknown

T = TypeVar("T")


def page_of(
    oldest_first: Sequence[T],
    id_of: Callable[[T], str],
    *,
    limit: int = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
) -> Page[T]:
    """The first `limit` items behind `after`, or the last ones ahead of `before`. Raises CursorUnknown."""
    items = list(oldest_first) if order == "asc" else list(reversed(oldest_first))
    ids = [id_of(item) for item in items]
    start = _place(ids, after) + 1 if after else 0
    end = _place(ids, before) if before else len(items)
    within = items[start:end]
    shown = within[-limit:] if before and not after else within[:limit]
    return Page(items=tuple(shown), has_more=len(within) > len(shown))


def _place(ids: Sequence[str], cursor: str) -> int:
    try:
        return ids.index(cursor)
    except ValueError:
        raise CursorUnknown(f"{cursor[:96]!r} is not in this list; give an id that an earlier page had") from None
