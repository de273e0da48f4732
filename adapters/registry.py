"""Which adapters there are and which version a name means: the database is the truth, memory a snapshot of it.

Bytes come first and rows after: a version lies in the store under its digest before one transaction makes it visible,
and files go only when no row points to them. So whenever the process dies, `recover` finds whole versions or none.

    registry = Registry(database, blobs, base_name="demo", base_fingerprint=base.fingerprint)
    registry.recover()
    version, created = registry.add("legal", staged_folder, manifest, source="upload")
    registry.resolve("legal", sticky=user).engine_name
"""

from __future__ import annotations

import builtins
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from adapters import ledger, upkeep
from adapters.adapter import Adapter, Version
from adapters.catalogue import Catalogue, other_base, taken
from adapters.errors import AdapterNotFound, AliasInvalid, InUse, NameTaken
from adapters.manifest import Manifest
from adapters.names import check_name
from adapters.ports import Blobs, Store
from adapters.routing import Traffic
from adapters.shelf import Shelf

__all__ = ["Adapter", "Registry", "Version"]

FETCHING_SECONDS = 3_600.0  # longer than fetching an adapter takes
STALLED = "it was not fetched within an hour: the server that fetched it ended; register it again"


class Registry:
    """Adapters, versions and aliases of one data directory. Any thread may call it, and so may several processes."""

    def __init__(
        self,
        database: Store,
        blobs: Blobs,
        *,
        base_name: str,
        base_fingerprint: str,
        reserved: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.time,
        max_pins: int | None = None,
        on_write: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Read the tables, which must exist.

        reserved: whether the base, the embedder or an assistant has that name already.
        max_pins: versions that may be pinned at once, which is the engine's slots but one; None knows no limit.
        on_write: called inside every transaction that changed something, to tell other processes.
        """
        self._database = database
        self._shelf = Shelf(blobs)
        self._base_name = base_name
        self._base_fingerprint = base_fingerprint
        self._reserved = reserved
        self._clock = clock
        self._max_pins = max_pins
        self._on_write = on_write
        self._reading = threading.Lock()  # snapshots are swapped in in the order that they were read
        self.refresh()

    # What there is, from memory

    def resolve(self, model: str, *, sticky: str = "") -> Version:
        """The version that `name`, `name@prefix`, an engine name or a permanent name means; microseconds, no SQL.

        A canary's choice is the same for the same `sticky` while its shares stand. Count the version as used before
        anything else can run, or its files may be collected meanwhile.

        Raises AdapterNotFound, VersionAmbiguous, NameInvalid (a prefix that is none) or OtherBase.
        """
        return self._catalogue.resolve(model, sticky)

    def get(self, name: str) -> Adapter:
        """One adapter, also of another base; raises AdapterNotFound."""
        return self._catalogue.get(name)

    def check_takes(self, name: str) -> None:
        """That a version for the served base could be registered under the name, new or not.

        Raises NameInvalid, NameTaken or OtherBase.
        """
        self._check_free(name)
        adapter = next((adapter for adapter in self.list() if adapter.name == name), None)
        if adapter is not None:
            self._check_base(adapter)
            _check_not_staging(adapter)

    def list(self) -> builtins.list[Adapter]:
        """All adapters of all bases, by name; `base_fingerprint` tells them apart."""
        return self._catalogue.list()

    def pinned(self) -> tuple[Version, ...]:
        """The versions that belong into the engine's slots for good: what pinned names of the served base mean now.

        Oldest name first, and no more than `max_pins`, which may have been larger when they were pinned.
        """
        return self._catalogue.pinned()[: self._max_pins]

    def path(self, version: Version) -> Path:
        """The folder with the version's two files; raises AdapterNotFound when somebody took them away."""
        return self._shelf.path(version)

    def refresh(self) -> None:
        """Read everything again, after another process wrote."""
        with self._reading, self._database.look() as connection:
            found = ledger.read_adapters(connection)
            self._catalogue = Catalogue.of(found, self._base_name, self._base_fingerprint)

    # Registering

    def begin(self, name: str, source: str, *, pin: bool = False) -> Adapter:
        """Take the name for a source that is still to be fetched; `add(..., begun=True)` or `fail` ends it.

        A name that is ready already and has a version from this source stays as it is, so asking twice does no harm;
        one that failed starts anew. Raises NameInvalid, NameTaken, OtherBase or PinLimit.
        """
        self._check_free(name)
        with self._write(name) as connection:
            adapter = ledger.read_adapter(connection, name)
            if adapter is not None:
                self._check_base(adapter)
                _check_not_staging(adapter)
                if adapter.versions and all(version.source != source for version in adapter.versions):
                    raise taken(adapter)
            if adapter is None or not adapter.versions:
                self._put_adapter(connection, name, source=source, pinned=pin, status="staging", traffic=[])
            elif pin and not adapter.pinned:
                self._pin(connection, name)
            return ledger.the_adapter(connection, name)

    def fail(self, name: str, error: str) -> None:
        """Say why what was begun did not become an adapter; the entry stays until it is retried or removed."""
        with self._write(name) as connection:
            ledger.fail_staging(connection, name, error)

    def fail_stalled(self) -> int:
        """Say of what was begun more than an hour ago that it failed, since who fetched it has died; returns how many.

        Should it come after all, it becomes ready.
        """
        before = self._clock() - FETCHING_SECONDS
        if not any(adapter.status == "staging" and adapter.created_at < before for adapter in self.list()):
            return 0
        with self._database.write() as connection:
            ledger.lock(connection)
            count = ledger.fail_stalled(connection, before, STALLED)
            self._on_write(connection)
        self.refresh()
        return count

    def add(
        self, name: str, folder: Path, manifest: Manifest, *, source: str, pin: bool = False, begun: bool = False
    ) -> tuple[Version, bool]:
        """Register a checked folder under a new name; it is moved into the store. Returns (version, created).

        The same bytes again are the version that they were, with created False; had its files been lost, they are back.
        begun: the name was taken by `begin` with this source; when it was removed since, nothing is registered.

        Raises NameInvalid, NameTaken (other bytes belong to the name's versions), OtherBase, PinLimit, and
        AdapterNotFound for a begun name that is gone.
        """
        self._check_free(name)
        self._shelf.prepare(folder, manifest.digest)
        with self._write(name) as connection:
            adapter = ledger.read_adapter(connection, name)
            if begun and (adapter is None or (adapter.status == "staging" and adapter.source != source)):
                raise AdapterNotFound(f"adapter {name!r} was removed while it was being fetched")
            if adapter is not None:
                self._check_base(adapter)
                if not begun:
                    _check_not_staging(adapter)
                if adapter.versions and adapter.having(manifest.digest) is None:
                    raise taken(adapter)
            if adapter is None or not adapter.versions:
                pin = pin or (begun and adapter is not None and adapter.pinned)
                traffic = [[manifest.digest, 1]]
                self._put_adapter(connection, name, source=source, pinned=pin, status="ready", traffic=traffic)
            elif pin and not adapter.pinned:
                self._pin(connection, name)
            return self._put_version(connection, name, folder, manifest, source)

    def add_version(
        self, name: str, folder: Path, manifest: Manifest, *, source: str, activate: bool = False
    ) -> tuple[Version, bool]:
        """Register a further version of a name that is there; the name moves to it only with `activate`.

        Returns (version, created); the same bytes again are not created. Raises AdapterNotFound or OtherBase.
        """
        self._shelf.prepare(folder, manifest.digest)
        with self._write(name) as connection:
            adapter = self._ready(connection, name)
            version, created = self._put_version(connection, name, folder, manifest, source)
            if activate:
                self._move(connection, adapter, ((version.digest, 1),))
            return version, created

    # Changing

    def move_alias(self, name: str, version: str | None = None, traffic: Mapping[str, float] | None = None) -> Adapter:
        """Point the name to a version (its id, a digest's prefix, or `previous`), or to several by weight.

        Moving to where it points already changes nothing, so a repeated call is harmless; `previous` always goes back.
        Raises AdapterNotFound, VersionAmbiguous, NameInvalid, OtherBase, AliasInvalid or PinLimit.
        """
        if (version is None) == (traffic is None):
            raise AliasInvalid("give either a version or traffic weights, and not both")
        with self._write(name) as connection:
            adapter = self._ready(connection, name)
            target = adapter.shares(traffic) if traffic is not None else adapter.target(version or "")
            self._move(connection, adapter, target)
            return ledger.the_adapter(connection, name)

    def set_pinned(self, name: str, pinned: bool) -> Adapter:
        """Keep what the name means in the engine, or no longer; raises AdapterNotFound or PinLimit."""
        with self._write(name) as connection:
            adapter = ledger.the_adapter(connection, name)
            if pinned and not adapter.pinned:
                self._pin(connection, name)
            elif not pinned:
                ledger.set_adapter(connection, name, pinned=False)
            return ledger.the_adapter(connection, name)

    def record(self, version: Version, facts: Mapping[str, Any]) -> None:
        """Add JSON-able facts to the version's details; a version that is gone is passed over."""
        with self._write(version.adapter) as connection:
            ledger.add_details(connection, version, facts)

    # Removing, and what a killed process left

    def remove(self, name: str) -> builtins.list[Version]:
        """Forget a name of any base and its versions, and return them; `collect` takes their files. AdapterNotFound."""
        with self._write(name) as connection:
            adapter = ledger.the_adapter(connection, name)
            ledger.remove_adapter(connection, name)
            return builtins.list(adapter.versions)

    def remove_version(self, name: str, version: str) -> Version:
        """Forget one version (its id or a digest's prefix); `collect` takes its files.

        Raises AdapterNotFound, VersionAmbiguous, NameInvalid, and InUse while the name points to it.
        """
        with self._write(name) as connection:
            adapter = ledger.the_adapter(connection, name)
            found = adapter.find(version)
            if found in adapter.active:
                raise InUse(f"{name!r} points to {found.id}; move the alias to another version first")
            ledger.remove_version(connection, found)
            if found.digest in dict(adapter.previous or ()):
                ledger.set_adapter(connection, name, previous=None)
            return found

    def collect(self, in_use: Collection[str] = ()) -> builtins.list[str]:
        """Delete the files of every digest that no version has and that is not in use; returns those digests."""
        return upkeep.collect(self._database, self._shelf, in_use)

    def recover(self, *, alone: bool = True) -> None:
        """Make rows and files agree after any end of the last process. For whoever holds the data directory's lock.

        Half-registered names are gone; versions whose files are lost say so; files that no version has are deleted.
        alone: whether nobody else works in this database; if not, what was begun within an hour may still become ready,
        and files stay, since others may be at work with those of a version that was just removed.
        """
        staged_before = None if alone else self._clock() - FETCHING_SECONDS
        upkeep.mend(self._database, self._shelf, self._on_write, staged_before=staged_before)
        self.refresh()

    # Inside one transaction

    @contextmanager
    def _write(self, name: str) -> Iterator[Connection]:
        """A transaction about one name; once it is committed, memory follows."""
        with self._database.write() as connection:
            ledger.lock(connection)
            yield connection
            self._on_write(connection)
        with self._reading, self._database.look() as connection:
            self._catalogue = self._catalogue.having(name, ledger.read_adapter(connection, name))

    def _ready(self, connection: Connection, name: str) -> Adapter:
        adapter = ledger.the_adapter(connection, name)
        self._check_base(adapter)
        if not adapter.versions:
            raise AdapterNotFound(f"adapter {name!r} has no version yet; its status is {adapter.status!r}")
        return adapter

    def _put_adapter(self, connection: Connection, name: str, *, pinned: bool, **row: Any) -> None:
        base = {"base_name": self._base_name, "base_fingerprint": self._base_fingerprint}
        ledger.put_adapter(connection, name, created_at=self._clock(), pinned=pinned, **base, **row)
        if pinned:
            self._pin(connection, name)

    def _put_version(
        self, connection: Connection, name: str, folder: Path, manifest: Manifest, source: str
    ) -> tuple[Version, bool]:
        self._shelf.put(folder, manifest.digest)
        return ledger.put_version(connection, name, manifest, source=source, created_at=self._clock())

    def _move(self, connection: Connection, adapter: Adapter, target: Traffic) -> None:
        if target == adapter.traffic:
            return
        ledger.set_adapter(connection, adapter.name, traffic=target, previous=adapter.traffic)
        if adapter.pinned and len(target) > len(adapter.traffic):
            self._pin(connection, adapter.name)

    def _pin(self, connection: Connection, name: str) -> None:
        ledger.pin(connection, name, self._base_fingerprint, self._max_pins)

    def _check_free(self, name: str) -> None:
        check_name(name)
        if self._reserved(name):
            raise NameTaken(f"{name!r} is the name of the base model, the embedder or an assistant; choose another")

    def _check_base(self, adapter: Adapter) -> None:
        if adapter.base_fingerprint != self._base_fingerprint:
            raise other_base(adapter, self._base_name)


def _check_not_staging(adapter: Adapter) -> None:
    if adapter.status == "staging":
        raise NameTaken(f"adapter {adapter.name!r} is being fetched from {adapter.source!r}; wait for it or remove it")
