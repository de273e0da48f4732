"""OpenAI's list object, and the part of a list that a request asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from fastapi import Depends, Query

from retrieval.pages import Order


class Paging(TypedDict):
    """Which part, in the words of every `list` method."""

    limit: int
    order: Order
    after: str | None
    before: str | None


def _paging(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
) -> Paging:
    return Paging(limit=limit, order=order, after=after, before=before)


PagingDep = Annotated[Paging, Depends(_paging)]


def listed(data: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page: the objects, and the ids by which a client asks for what lies before and after it."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def poll_after(is_done: bool) -> dict[str, str]:
    """The header by which OpenAI's clients choose how soon to ask again; they wait a second without it."""
    return {} if is_done else {"openai-poll-after-ms": "200"}
