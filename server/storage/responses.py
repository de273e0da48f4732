"""Stored responses of `/v1/responses`: what was asked, what was answered, whose it is and how long it stays.

An unfinished response is a row too, so that a background one can be watched from elsewhere, and found failed after a
crash. Only `finish`, `cancel` and `fail_interrupted` end one, and the first of them wins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from retrieval.pages import Order, Page
from server.storage.callers import Caller
from server.storage.database import Database
from server.storage.errors import ConversationTooLong, ResponseNotFound, ResponseUnfinished
from server.storage.pages import page_of
from server.storage.tables import responses

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
UNFINISHED: tuple[Status, ...] = ("queued", "in_progress")
LONGEST_CONVERSATION = 1_000  # responses that follow each other
RESPONSE = "resp_"  # how every id begins
INTERRUPTED = "The server stopped while it made this response; ask again."


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """One response. Times are Unix seconds; `body` is the response object that clients get, its `status` included."""

    id: str
    owner: str
    status: Status
    model: str
    created_at: float
    expires_at: float
    body: Mapping[str, Any]
    input_items: tuple[Mapping[str, Any], ...]  # of this request alone, without what it continues
    previous_response_id: str | None = None
    background: bool = False


class Responses:
    """The table of responses. A caller sees its owner's, an admin all; others, and expired ones, are not found."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def save(self, response: StoredResponse) -> None:
        """Add a response, finished or not, under a new id."""
        values = {name: getattr(response, name) for name in responses.c.keys()}  # noqa: SIM118  # not a dict
        values |= {"body": dict(response.body), "input_items": [dict(item) for item in response.input_items]}
        with self._database.write() as connection:
            connection.execute(responses.insert().values(values))

    def finish(self, response_id: str, *, status: Status, body: Mapping[str, Any]) -> bool:
        """Give an unfinished response its next state, or its last.

        False when it has ended already, by a cancel for instance, or is gone: then nothing changes.
        """
        with self._database.write() as connection:
            return self._end(connection, response_id, status, {**body, "status": status})

    def load(self, response_id: str, caller: Caller) -> StoredResponse:
        """The response. Raises ResponseNotFound."""
        with self._database.read() as connection:
            return self._find(connection, response_id, caller)

    def unfinished(self, response_ids: Collection[str]) -> set[str]:
        """Those of them that have not ended and are not gone, whoever's they are; one read."""
        columns = responses.c
        awaited = sa.select(columns.id).where(columns.id.in_(response_ids), columns.status.in_(UNFINISHED))
        with self._database.look() as connection:
            return set(connection.execute(awaited).scalars())

    def cancel(self, response_id: str, caller: Caller) -> StoredResponse:
        """End an unfinished response as cancelled; one that has ended stays as it is. Raises ResponseNotFound."""
        with self._database.write() as connection:
            found = self._find(connection, response_id, caller, lock=True)
            if found.status in UNFINISHED:
                self._end(connection, response_id, "cancelled", {**found.body, "status": "cancelled"})
            return self._find(connection, response_id, caller)

    def delete(self, response_id: str, caller: Caller) -> None:
        """Remove a response; what continues it cannot be continued any more. Raises ResponseNotFound."""
        with self._database.write() as connection:
            self._find(connection, response_id, caller, lock=True)
            connection.execute(responses.delete().where(responses.c.id == response_id))

    def list_input_items(
        self,
        response_id: str,
        caller: Caller,
        *,
        limit: int = 20,
        order: Order = "desc",
        after: str | None = None,
    ) -> Page[Mapping[str, Any]]:
        """A page of the request's input, each item with an id. Raises ResponseNotFound, CursorUnknown."""
        found = self.load(response_id, caller)
        items = [_with_id(found.id, place, item) for place, item in enumerate(found.input_items)]
        return page_of(items, lambda item: str(item["id"]), limit=limit, order=order, after=after)

    def conversation(self, previous_response_id: str, caller: Caller) -> list[dict[str, Any]]:
        """What was said up to and with a response, oldest first: each request's input items, then its output items.

        Raises ResponseNotFound when it or any that it continues is missing, ResponseUnfinished when one has not ended,
        ConversationTooLong beyond 1,000 responses.
        """
        links: list[StoredResponse] = []
        following: str | None = previous_response_id
        with self._database.read() as connection:
            while following is not None:
                if len(links) == LONGEST_CONVERSATION:
                    raise ConversationTooLong(
                        f"{previous_response_id!r} continues more than {LONGEST_CONVERSATION} responses; "
                        "send the part that matters as input, without previous_response_id"
                    )
                link = self._find(connection, following, caller)
                if link.status in UNFINISHED:
                    raise ResponseUnfinished(f"response {link.id!r} is {link.status}; wait until it is completed")
                links.append(link)
                following = link.previous_response_id
        items: list[dict[str, Any]] = []
        for link in reversed(links):
            items += [dict(item) for item in link.input_items]
            items += [dict(item) for item in link.body.get("output") or ()]
        return items

    def fail_interrupted(self, *, before: float | None = None) -> int:
        """End what a dead process has left unfinished as failed; returns how many.

        Only before the server answers; or, where other servers work in the same database, what was begun before a time
        that is so long ago that nobody can still be at it.
        """
        unfinished = sa.select(responses).where(responses.c.status.in_(UNFINISHED))
        if before is not None:
            unfinished = unfinished.where(responses.c.created_at < before)
        with self._database.write() as connection:
            rows = connection.execute(unfinished.with_for_update(skip_locked=True)).all()
            for row in rows:
                error = {"code": "server_error", "message": INTERRUPTED}
                self._end(connection, row.id, "failed", {**row.body, "status": "failed", "error": error})
        return len(rows)

    def purge_expired(self, now: float) -> int:
        """Delete what has expired; returns how many."""
        with self._database.write() as connection:
            return connection.execute(responses.delete().where(responses.c.expires_at <= now)).rowcount

    def _find(
        self, connection: sa.Connection, response_id: str, caller: Caller, *, lock: bool = False
    ) -> StoredResponse:
        query = sa.select(responses).where(responses.c.id == response_id, responses.c.expires_at > self._clock())
        if not caller.is_admin:
            query = query.where(responses.c.owner == caller.owner)
        row = connection.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            raise ResponseNotFound(
                f"no stored response has the id {response_id[:96]!r}; it was never stored, or deleted, or has expired"
            )
        return StoredResponse(**{**row, "input_items": tuple(row["input_items"])})

    def _end(self, connection: sa.Connection, response_id: str, status: Status, body: Mapping[str, Any]) -> bool:
        changed = connection.execute(
            responses.update()
            .where(responses.c.id == response_id, responses.c.status.in_(UNFINISHED))
            .values(status=status, body=dict(body))
        )
        return changed.rowcount == 1


def _with_id(response_id: str, place: int, item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The item with an id: its own, else one made of the response's id and its place, the same at each reading."""
    if item.get("id"):
        return item
    prefix = {"function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}.get(item.get("type", ""), "msg")
    return {**item, "id": f"{prefix}_{response_id.removeprefix(RESPONSE)}_{place}"}
