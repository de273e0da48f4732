"""Assistants: those made over the API, in the database, and those of `MANYHATS_ASSISTANTS_FILE`, read-only.

assistants.create({"name": "lawyer", "model": "legal", "instructions": "Cite the article."})
assistants.find("lawyer")  # by name or id: from memory, no SQL
"""

from __future__ import annotations

import builtins
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from adapters.errors import NameInvalid, NameTaken
from adapters.names import check_name, shown
from retrieval.pages import Order, Page
from retrieval.places import Places
from server.storage import feed
from server.storage.assistant import Assistant, AssistantFields, assistant_of, check_fields, check_resources
from server.storage.database import Database
from server.storage.entries_file import read_entries
from server.storage.errors import AssistantInvalid, AssistantNotFound, FileInvalid, ManagedByFile
from server.storage.pages import page_of
from server.storage.tables import assistants

__all__ = ["Assistant", "Assistants"]

logger = logging.getLogger(__name__)


class Assistants:
    """All assistants by id and name. Any thread may call it.

    Other processes' changes are seen after `refresh`, which the server calls when the feed's topic "assistants" moves.
    """

    def __init__(
        self,
        database: Database,
        *,
        file: Path | None = None,
        taken: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the file, then the table, which must exist. Raises FileInvalid.

        taken: whether the base, the embedder or an adapter has that name already.
        """
        self._database = database
        self._taken = taken
        self._clock = clock
        self._from_file = _read_file(file) if file else []
        self._places = Places()
        self._refreshing = threading.Lock()  # a later snapshot is never replaced by an earlier one
        self._all: builtins.list[Assistant] = []
        self._by_name: dict[str, Assistant] = {}
        self.refresh()
        for assistant in self._all:
            if self._by_name[assistant.name] is not assistant:
                logger.warning("assistant %r of the file hides %s of the same name", assistant.name, assistant.id)

    def create(self, given: Mapping[str, Any]) -> Assistant:
        """Make an assistant of OpenAI's fields and `examples`; without a name, its id is its name.

        Raises AssistantInvalid, and NameInvalid or NameTaken of `adapters.errors`.
        """
        fields = check_fields(given)
        check_resources(given)
        made_id = f"asst_{secrets.token_hex(12)}"
        name = fields.name or made_id
        made = assistant_of(fields, id=made_id, name=name, created_at=self._clock())
        with self._naming(name), self._database.write() as connection:
            self._check_name(name)
            connection.execute(
                assistants.insert().values(
                    id=made.id, name=name, model=made.model, created_at=made.created_at, fields=fields.stored()
                )
            )
            feed.bump(connection, "assistants")
        self.refresh()
        return made

    def get(self, id_or_name: str) -> Assistant:
        """The assistant. Raises AssistantNotFound."""
        found = self.find(id_or_name)
        if found is None:
            raise AssistantNotFound(f"no assistant has the id or name {shown(id_or_name)}")
        return found

    def find(self, id_or_name: str) -> Assistant | None:
        """The assistant, or None; from memory."""
        return self._by_name.get(id_or_name)

    def list(
        self, *, limit: int = 20, order: Order = "desc", after: str | None = None, before: str | None = None
    ) -> Page[Assistant]:
        """A page of all assistants, by when they were made. Raises CursorUnknown."""
        return page_of(
            self._all,
            lambda one: one.id,
            limit=limit,
            order=order,
            after=after,
            before=before,
            key_of=_age,
            places=self._places,
        )

    def all(self) -> tuple[Assistant, ...]:
        """Every assistant that a name means, oldest first."""
        return tuple(one for one in self._all if self._by_name[one.name] is one)

    def update(self, id_or_name: str, changes: Mapping[str, Any]) -> Assistant:
        """Change the given fields; null takes one back to unset, and those not given stay.

        Raises AssistantNotFound, ManagedByFile, AssistantInvalid, NameInvalid or NameTaken.
        """
        current = self._writable(id_or_name)
        check_resources(changes)
        with self._naming(str(changes.get("name"))), self._database.write() as connection:
            row = self._row(connection, current.id)
            fields = check_fields({"name": row["name"], "model": row["model"], **row["fields"], **changes})
            name = fields.name or row["id"]
            if name != row["name"]:
                self._check_name(name)
            connection.execute(
                assistants.update()
                .where(assistants.c.id == current.id)
                .values(name=name, model=fields.model, fields=fields.stored())
            )
            feed.bump(connection, "assistants")
        self.refresh()
        return self.get(current.id)

    def delete(self, id_or_name: str) -> Assistant:
        """Remove an assistant and return what it was. Raises AssistantNotFound or ManagedByFile."""
        current = self._writable(id_or_name)
        with self._database.write() as connection:
            self._row(connection, current.id)
            connection.execute(assistants.delete().where(assistants.c.id == current.id))
            feed.bump(connection, "assistants")
        self.refresh()
        return current

    def refresh(self) -> None:
        """Read the table again."""
        with self._refreshing:
            with self._database.look() as connection:
                stored = [_assistant(row) for row in connection.execute(sa.select(assistants)).mappings()]
            every = sorted([*stored, *self._from_file], key=_age)
            by_id = {one.id: one for one in every}
            by_name = {one.name: one for one in [*stored, *self._from_file]}  # the file's entries win
            self._all, self._by_name = every, by_id | by_name

    def check_file_names(self) -> None:
        """Whether the file's names are free of adapters' and models'. Raises FileInvalid."""
        for one in self._from_file:
            if self._taken(one.name):
                raise FileInvalid(f"assistants file: {one.name!r} is a model's or adapter's name; rename the entry")

    def _writable(self, id_or_name: str) -> Assistant:
        self.refresh()
        current = self.get(id_or_name)
        if current.managed == "file":
            raise ManagedByFile(
                f"assistant {current.name!r} comes from the assistants file; change it there and restart"
            )
        return current

    def _row(self, connection: sa.Connection, made_id: str) -> sa.RowMapping:
        query = sa.select(assistants).where(assistants.c.id == made_id).with_for_update()
        row = connection.execute(query).mappings().first()
        if row is None:  # deleted by another since it was looked up
            raise AssistantNotFound(f"no assistant has the id {made_id!r}")
        return row

    def _check_name(self, name: str) -> None:
        try:
            check_name(name)
        except NameInvalid:
            raise NameInvalid(_bad_name(name)) from None
        if name in self._by_name or self._taken(name):
            raise NameTaken(_taken_name(name))

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError:  # another process was faster
            raise NameTaken(_taken_name(name)) from None


def _age(one: Assistant) -> tuple[float, str]:
    return one.created_at, one.id


class _Entry(AssistantFields):
    name: str


def _read_file(path: Path) -> builtins.list[Assistant]:
    found: dict[str, Assistant] = {}
    for entry in read_entries(path, _Entry):
        try:
            check_name(entry.name)
            check_resources({"tool_resources": entry.tool_resources})
        except NameInvalid:
            raise FileInvalid(f"{path}: {_bad_name(entry.name)}") from None
        except AssistantInvalid as error:
            raise FileInvalid(f"{path}: {entry.name!r}: {error}") from None
        if entry.name in found:
            raise FileInvalid(f"{path}: two entries are called {entry.name!r}; rename one")
        # The same id at each start, because clients keep ids.
        made_id = f"asst_file_{hashlib.sha256(entry.name.encode()).hexdigest()[:16]}"
        found[entry.name] = assistant_of(
            entry, id=made_id, name=entry.name, created_at=path.stat().st_mtime, managed="file"
        )
    return [*found.values()]


def _assistant(row: sa.RowMapping) -> Assistant:
    fields = check_fields({"name": row["name"], "model": row["model"], **row["fields"]})
    return assistant_of(fields, id=row["id"], name=row["name"], created_at=row["created_at"])


def _bad_name(name: str) -> str:
    return (
        f"{shown(name)} cannot be an assistant's name; "
        "use 1 to 96 letters, digits, '.', '_', ':' or '-', the first a letter or digit"
    )


def _taken_name(name: str) -> str:
    return f"the name {name!r} means something else already; GET /v1/models lists the names in use"
