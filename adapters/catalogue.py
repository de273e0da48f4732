"""The registry as it was at one moment, in memory: requests resolve their names here, without SQL and without locks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adapters.adapter import Adapter, Version
from adapters.errors import AdapterNotFound, NameTaken, OtherBase
from adapters.names import find_digest, shown, split, split_permanent
from adapters.routing import Route


@dataclass(frozen=True, slots=True)
class Entry:
    """One adapter, prepared for look-ups."""

    adapter: Adapter
    versions: Mapping[str, Version]  # by digest
    route: Route | None  # None while there is no version

    @classmethod
    def of(cls, adapter: Adapter) -> Entry:
        route = Route.of(adapter.traffic) if adapter.traffic else None
        return cls(adapter, {version.digest: version for version in adapter.versions}, route)


class Catalogue:
    """Never changed: a writer makes the next one and swaps it in."""

    def __init__(self, entries: Mapping[str, Entry], base_name: str, base_fingerprint: str) -> None:
        self._entries = entries
        self._base_name = base_name
        self._base_fingerprint = base_fingerprint

    @classmethod
    def of(cls, adapters: Iterable[Adapter], base_name: str, base_fingerprint: str) -> Catalogue:
        """All of these, on a server of that base."""
        return cls({adapter.name: Entry.of(adapter) for adapter in adapters}, base_name, base_fingerprint)

    def having(self, name: str, adapter: Adapter | None) -> Catalogue:
        """The same but for one name; None takes it out."""
        entries = {other: entry for other, entry in self._entries.items() if other != name}
        if adapter is not None:
            entries[name] = Entry.of(adapter)
        return Catalogue(entries, self._base_name, self._base_fingerprint)

    def resolve(self, model: str, sticky: str) -> Version:
        """The version that `name`, `name@prefix` or a permanent name means; raises as `Registry.resolve` does."""
        permanent = split_permanent(model)
        name, prefix = split(permanent[1] if permanent else model)
        entry = self._entries.get(name)
        if permanent is not None:
            self._check_base_of(permanent[0], model, entry)
        if entry is None:
            raise AdapterNotFound(f"no adapter named {shown(name)}; the list of models has every name")
        adapter = entry.adapter
        if adapter.base_fingerprint != self._base_fingerprint:
            raise other_base(adapter, self._base_name)
        if entry.route is None:
            raise AdapterNotFound(f"adapter {name!r} cannot be used: {_why_not(adapter)}")
        if prefix is None:
            digest = entry.route.choose(name, sticky)
        else:
            digest = prefix if prefix in entry.versions else find_digest(name, prefix, entry.versions)
        version = entry.versions[digest]
        if version.error is not None:
            raise AdapterNotFound(f"version {version.id} cannot be served: {version.error}")
        return version

    def _check_base_of(self, base: str, model: str, entry: Entry | None) -> None:
        """A base that was renamed keeps the permanent names that it gave out."""
        if base == self._base_name or (entry is not None and entry.adapter.base_name == base):
            return
        raise OtherBase(f"{shown(model)} names the base {shown(base)}, this server serves {self._base_name!r}")

    def get(self, name: str) -> Adapter:
        """The adapter of any base; raises AdapterNotFound."""
        entry = self._entries.get(name)
        if entry is None:
            raise AdapterNotFound(f"no adapter named {shown(name)}; the list of models has every name")
        return entry.adapter

    def list(self) -> list[Adapter]:
        """Every adapter of every base, by name."""
        return [self._entries[name].adapter for name in sorted(self._entries)]

    def pinned(self) -> tuple[Version, ...]:
        """The versions of pinned names that belong into the engine's slots now, oldest name first."""
        ours = (entry.adapter for entry in self._entries.values() if entry.adapter.pinned)
        served = (adapter for adapter in ours if adapter.base_fingerprint == self._base_fingerprint)
        by_age = sorted(served, key=lambda adapter: (adapter.created_at, adapter.name))
        return tuple(version for adapter in by_age for version in adapter.active if _takes_a_slot(version))


def _takes_a_slot(version: Version) -> bool:
    return version.error is None and not version.is_soft_prompt


def other_base(adapter: Adapter, served: str) -> OtherBase:
    """The error for an adapter that another base's server registered."""
    return OtherBase(f"adapter {adapter.name!r} was made for base {adapter.base_name!r}, this server serves {served!r}")


def taken(adapter: Adapter) -> NameTaken:
    """The error for other bytes under a name that has some."""
    name = adapter.name
    return NameTaken(
        f"adapter {name!r} has other weights already; POST /v1/adapters/{name}/versions adds a version to it"
    )


def _why_not(adapter: Adapter) -> str:
    if adapter.status == "staging":
        return "it is still being fetched; wait until its status is 'ready'"
    return "its registration failed; its entry in the list of adapters says why"
