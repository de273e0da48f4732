"""What a router in front of several servers reads of each: where an adapter is in memory, by the names clients send.

Such a router (the endpoint picker of Kubernetes' Gateway API Inference Extension is one) reads vLLM's metrics some
times a second and looks a request's `model`, as it stands in the body, up in `vllm:lora_requests_info`. vLLM's own
series would not serve it: that has versions, where clients send aliases and assistants, and those that are computing,
where what is in memory counts. So this page has a series of our own under that name, in one sample, beside the figures
of load; it is small, asks no database, and no Prometheus should keep it, since each change is a new series there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from adapters.adapter import Adapter, Version
from server.services import Services
from server.storage.assistant import Assistant

MAX_NAMES = 1000  # in one label; assistants are the first that it has no place for
WAITING = "vllm:num_requests_waiting"
ENGINE_SERIES = ("vllm:num_requests_running", WAITING, "vllm:kv_cache_usage_perc", "vllm:cache_config_info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Every name by which a version may be asked for, split by where the version is."""

    ready: tuple[str, ...]  # in memory or on the way there; the base, which always is, comes first
    waiting: tuple[str, ...]  # requests wait for a place for them


def render(services: Services, now: float) -> bytes:
    """Prometheus' text format; `now` in Unix seconds."""
    occupancy = services.slots.occupancy()
    loading = {occupancy.loading} if occupancy.loading is not None else set()
    ready = loading.union(occupancy.held)
    waiting = services.slots.needed() - ready
    n_free = max(0, services.settings.held_adapters - len(ready) - len(waiting))
    adapters = services.registry.list()
    if services.settings.prompt_tuning:  # soft prompts take no slot
        read = (version for adapter in adapters for version in adapter.versions if version.is_soft_prompt)
        ready_names = ready.union(version.engine_name for version in read if services.slots.is_loaded(version))
    else:
        ready_names = ready
    names = names_of(
        adapters, services.assistants.all(), base_name=services.settings.base_name, ready=ready_names, waiting=waiting
    )
    engine = services.engine.metrics(ENGINE_SERIES)
    n_waiting = services.admission.waiting + occupancy.waiting + _value(engine, WAITING)
    page = CollectorRegistry(auto_describe=False)
    page.register(_Page(names, n_free=n_free, n_waiting=n_waiting, now=now))
    return b"".join(_without(engine, WAITING)) + generate_latest(page)


def names_of(
    adapters: Iterable[Adapter],
    assistants: Iterable[Assistant],
    *,
    base_name: str,
    ready: Collection[str],
    waiting: Collection[str],
) -> Names:
    """At most MAX_NAMES of each; `ready` and `waiting` hold engine names.

    A canary's name stands for the version that most of its requests go to.
    """
    # few are in memory of what may be thousands, and this is asked ten times a second
    at_hand = {key.rpartition("@")[0] for key in (*ready, *waiting)}
    by_name = {adapter.name: adapter for adapter in adapters if adapter.name in at_hand}
    meant = {base_name: ""}
    for adapter in by_name.values():
        meant |= {version.id: version.engine_name for version in adapter.versions}
        version = _mostly(adapter)
        if version is not None:
            meant[adapter.name] = version.engine_name
    of_models = dict(meant)
    for assistant in assistants:
        key = of_models.get(assistant.model, _by_prefix(assistant.model, by_name))
        if key is not None:
            meant.setdefault(assistant.name, key)
            meant.setdefault(assistant.id, key)
    listed = {name: version for name, version in meant.items() if "," not in name}  # as a base's path may have it
    there = {"", *ready}
    return Names(
        ready=tuple(name for name, version in listed.items() if version in there)[:MAX_NAMES],
        waiting=tuple(name for name, version in listed.items() if version in waiting)[:MAX_NAMES],
    )


def _by_prefix(model: str, adapters: Mapping[str, Adapter]) -> str | None:
    """The engine name that `name@prefix` means, where it means one."""
    name, _, prefix = model.partition("@")
    versions = adapters[name].versions if prefix and name in adapters else ()
    found = [version.engine_name for version in versions if version.digest.startswith(prefix.lower())]
    return found[0] if len(found) == 1 else None


def _mostly(adapter: Adapter) -> Version | None:
    shares = dict(adapter.traffic)
    return adapter.having(max(shares, key=lambda digest: shares[digest])) if shares else None


class _Page(Collector):
    def __init__(self, names: Names, *, n_free: int, n_waiting: float, now: float) -> None:
        self._names = names
        self._n_free = n_free
        self._n_waiting = n_waiting
        self._now = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(WAITING, "Requests in line, for a slot, and in the engine's queue.", self._n_waiting)
        info = GaugeMetricFamily(
            "vllm:lora_requests_info",
            "Models in memory by clients' names, and how many names there could be; the value is the time.",
            labels=["max_lora", "running_lora_adapters", "waiting_lora_adapters"],
        )
        # A router takes `max_lora` less the names listed for the room there is; a version has several names, and so
        # the number counts names too.
        n_names = len(self._names.ready) + len(self._names.waiting)
        info.add_metric(
            [str(n_names + self._n_free), ",".join(self._names.ready), ",".join(self._names.waiting)], self._now
        )
        yield info


def _without(text: bytes, name: str) -> Iterator[bytes]:
    """The lines of all other series."""
    for line in text.splitlines(keepends=True):
        if _name(line) != name:
            yield line


def _value(text: bytes, name: str) -> float:
    """The sum of a series' samples; 0 where there is none."""
    samples = (line for line in text.splitlines() if not line.startswith(b"#") and _name(line) == name)
    return sum(float(line.rsplit(b" ", 1)[1]) for line in samples)


def _name(line: bytes) -> str:
    """The series that a line is of, or tells the type or meaning of."""
    words = line.decode().split(maxsplit=3)
    if words and words[0] == "#":
        return words[2] if len(words) > 2 else ""
    return words[0].partition("{")[0] if words else ""
