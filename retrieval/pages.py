"""OpenAI's way through a list, in SQL: `limit`, `order`, and `after` or `before` one of its ids."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, tuple_

from retrieval.errors import CursorUnknown
from retrieval.places import Places

T = TypeVar("T")
Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Part of a list, in the order asked for."""

    items: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """What part of a list is asked for; the limit is the caller's to bound."""

    limit: int = 20
    order: Order = "desc"
    after: str | None = None
    before: str | None = None


def rows_of(
    connection: Connection,
    query: Select[Any],
    key: Sequence[ColumnElement[Any]],
    *,
    among: Select[Any],
    identity: ColumnElement[str],
    paging: Paging,
    places: Places,
    reader: Hashable,
) -> tuple[list[Row[Any]], bool]:
    """The query's rows behind `after` or ahead of `before`, and whether there are more; the key is the list's order.

    among: selects the key of everything that a cursor may name. It may be wider than the query: who walks the files
    that are in progress must not lose the way because one of them was completed.
    places: of earlier pages of this reader (whoever sees the same list), so that the way goes on where a cursor's item
    has been deleted since: a loop over a list that deletes what it is given does that.

    Raises CursorUnknown.
    """
    ascending = paging.order == "asc"
    place = tuple_(*key)
    for cursor, behind in ((paging.after, True), (paging.before, False)):
        if cursor is not None:
            found = connection.execute(among.where(identity == cursor)).first()
            stood = tuple(found) if found is not None else places.find(reader, cursor)
            if stood is None:
                raise CursorUnknown(f"{cursor[:96]!r} is not in this list; give an id that an earlier page had")
            query = query.where(place > stood if behind == ascending else place < stood)
    backwards = paging.before is not None and paging.after is None  # the last ones ahead of it
    sorting = [column.asc() if ascending != backwards else column.desc() for column in key]
    rows = list(connection.execute(query.order_by(*sorting).limit(paging.limit + 1)).all())
    shown = rows[: paging.limit]
    for end in (*shown[:1], *shown[-1:]):
        places.note(reader, end._mapping[identity], tuple(end._mapping[column] for column in key))
    return (shown[::-1] if backwards else shown), len(rows) > paging.limit
