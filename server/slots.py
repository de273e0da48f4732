"""Adapter versions in the engine: who may use one now, what is loaded for it, and what goes.

LoRAs have slots; soft prompts need none (`soft_prompts.py`). The policy of the slots is `adapters/residency.py`; here
its steps are carried out on the event loop, one load at a time.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.adapter import Version
from adapters.errors import AdapterError, AdapterNotFound
from adapters.registry import Registry
from adapters.residency import Admit, Load, Occupancy, Refuse, Residency, Step, Unload
from server.engine.base import Engine, EngineAdapter, EngineError, EngineUnavailable, LoadFailed
from server.first_load import FACT, FirstLoad
from server.metrics import Metrics
from server.soft_prompts import SoftPrompts
from server.storage.errors import StorageError
from server.threads import run_in

logger = logging.getLogger(__name__)

Failure = EngineError | AdapterNotFound | StorageError  # to load: told to whoever waits for it


class Slots:
    """The engine's adapter slots. One event loop owns it."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        metrics: Metrics,
        *,
        slots: int,
        held: int,
        patience: float = 1.0,
        prompt_tuning: bool = False,
        first_load: FirstLoad | None = None,
        collects: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """collects: whether the files of removed versions are deleted, as no other engine may still need them."""
        self._engine = engine
        self._registry = registry
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._residency = Residency(slots, held, patience=patience)
        self._tickets = itertools.count(1)
        self._waiting: dict[object, asyncio.Future[None]] = {}
        self._versions: dict[str, Version] = {}  # by engine name: what the policy's keys mean
        self._loaded: dict[str, EngineAdapter] = {}
        self._used_at: dict[str, float] = {}  # by engine name, Unix seconds; of this run of the server
        self._claims: Counter[str] = Counter()  # digests of versions that a request was given but does not hold yet
        self._failure: dict[str, Failure] = {}
        self._pinned: set[str] = set()
        self._steps: asyncio.Queue[Step] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None
        self._collecting = asyncio.Lock()
        self._soft_prompts = SoftPrompts(engine, registry, on_load=self._read) if prompt_tuning else None
        self._first_load = first_load
        self._collects = collects
        self._measuring: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def hold(self, version: Version) -> AsyncIterator[EngineAdapter]:
        """Wait for the version's slot and keep it for the request's time.

        Raises LoadFailed or AdapterNotFound when it cannot be loaded, BlobsUnavailable when its files cannot be fetched
        now, EngineUnavailable when the engine is dead.
        """
        self._used_at[version.engine_name] = self._wall_clock()
        async with self._held(version) as adapter:
            yield adapter

    @asynccontextmanager
    async def _held(self, version: Version) -> AsyncIterator[EngineAdapter]:
        if version.is_soft_prompt:
            async with self._soft(version).hold(version) as adapter:
                yield adapter
            return
        key = version.engine_name
        ticket = next(self._tickets)
        self._versions[key] = version
        going = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = going
        try:
            self._follow(self._residency.acquire(key, ticket, self._clock()))
            await going
            yield self._loaded[key]
        finally:
            self._waiting.pop(ticket, None)
            self._follow(self._residency.release(ticket, self._clock()))

    def claim(self, version: Version) -> Callable[[], None]:
        """Keep a version's files from now on, before it is held; returns what gives the claim back."""
        self._claims[version.digest] += 1

        def give_back() -> None:
            self._claims[version.digest] -= 1
            if not self._claims[version.digest]:
                del self._claims[version.digest]

        return give_back

    def is_loaded(self, version: Version) -> bool:
        """Whether the engine has the version in its memory."""
        if version.is_soft_prompt:
            return self._soft_prompts is not None and self._soft_prompts.is_loaded(version)
        return version.engine_name in self._loaded

    def last_used_at(self, version: Version) -> float | None:
        """When a request last asked for the version, in Unix seconds; None if none did since the server started."""
        return self._used_at.get(version.engine_name)

    def occupancy(self) -> Occupancy:
        """Who is in, who waits."""
        return self._residency.occupancy()

    def needed(self) -> set[str]:
        """Engine names of the LoRA versions that are loaded, being loaded, or waited for."""
        return self._residency.needed()

    async def follow_pins(self) -> None:
        """Pin what the registry says is pinned, let go what is not any more, and forget versions that no name means."""
        wanted = {version.engine_name: version for version in self._registry.pinned()}
        now = self._clock()
        for key in self._pinned - wanted.keys():
            self._pinned.discard(key)
            self._follow(self._residency.unpin(key, now))
        for key, version in wanted.items():
            if key not in self._pinned:
                self._pinned.add(key)
                self._versions[key] = version
                self._residency.keep(key)
                self._follow(self._residency.pin(key, f"pin {key}", now))
        await self._retire_unnamed()

    async def settled(self) -> None:
        """Until every load and unload that was decided has been carried out."""
        await self._steps.join()

    async def pins_are_in(self) -> None:
        """Until every pinned version is loaded; one that failed to load is passed over, its error was logged."""
        while any(self._residency.state(key) not in ("held", "in_use") for key in self._pinned):
            await self._steps.join()
            await asyncio.sleep(0)

    async def retire(self, versions: Iterable[Version]) -> None:
        """These versions were removed: unloaded when their last request has ended, and then their files go."""
        versions = list(versions)
        for version in versions:
            self._used_at.pop(version.engine_name, None)
        kept = {adapter.name for adapter in self._registry.list()}
        for name in {version.adapter for version in versions} - kept:
            self._metrics.forget(name)
        await self.follow_pins()
        try:
            await self._collect()
        except StorageError as error:  # they are removed all the same; the next unload or start collects the files
            logger.warning("files of removed versions stay for now: %s", error)

    async def close(self) -> None:
        """Stop carrying out steps; the engine goes with everything it holds."""
        tasks = [task for task in (self._worker, self._measuring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _soft(self, version: Version) -> SoftPrompts:
        if self._soft_prompts is None:
            raise AdapterNotFound(
                f"version {version.id} cannot be served: it is a soft prompt, and MANYHATS_PROMPT_TUNING is off"
            )
        return self._soft_prompts

    async def _retire_unnamed(self) -> None:
        """A version that no name points to any more is unloaded when idle; one that a name points to stays."""
        named = {v.engine_name for adapter in self._registry.list() for v in adapter.active}
        for key in list(self._versions):
            if key in named:
                self._residency.keep(key)
            else:
                self._follow(self._residency.retire(key, self._clock()))
        if self._soft_prompts is not None:
            await self._soft_prompts.forget_all_but(named)

    def _follow(self, steps: list[Step]) -> None:
        """Admit and refuse at once; loads and unloads go through the engine in their order."""
        for step in steps:
            if isinstance(step, Admit):
                self._answer(step.ticket, None)
            elif isinstance(step, Refuse):
                self._answer(step.ticket, self._failure.get(step.key))
            else:
                self._steps.put_nowait(step)
        if not self._steps.empty() and (self._worker is None or self._worker.done()):
            self._worker = asyncio.create_task(self._carry_out(), name="adapter slots")

    def _answer(self, ticket: object, error: Failure | None) -> None:
        going = self._waiting.get(ticket)
        if going is None or going.done():
            return
        if error is None:
            going.set_result(None)
        else:
            going.set_exception(error)

    async def _carry_out(self) -> None:
        while not self._steps.empty():
            step = self._steps.get_nowait()
            try:
                if isinstance(step, Load):
                    for key in step.evict:
                        await self._unload(key)
                        self._metrics.evicted(self._versions[key].adapter)
                    await self._load(step.key)
                elif isinstance(step, Unload):
                    await self._unload(step.key)
                    await self._collect()
                self._metrics.set_residents([self._versions[key].adapter for key in self._loaded])
            except Exception:
                # the steps behind it are others' requests; files that were not collected now are at the next unload
                logger.exception("%s was not carried out to its end", step)
            finally:
                self._steps.task_done()

    async def _load(self, key: str) -> None:
        version = self._versions[key]
        started = self._clock()
        try:
            adapter = EngineAdapter(
                engine_name=key, lora_id=version.lora_id, path=await run_in(None, self._warm, version)
            )
            await self._engine.load(adapter)
        except (EngineError, AdapterNotFound, StorageError) as error:
            logger.warning("adapter %s could not be loaded: %s", version.id, error)
            self._refuse(key, error)
            return
        except Exception as error:
            logger.exception("adapter %s could not be loaded", version.id)
            failure = LoadFailed(f"the engine did not take {version.id!r}")
            failure.__cause__ = error
            self._refuse(key, failure)
            return
        self._failure.pop(key, None)
        self._loaded[key] = adapter
        self._follow(self._residency.loaded(key, self._clock()))
        self._read(version, self._clock() - started)

    def _read(self, version: Version, seconds: float) -> None:
        self._metrics.loaded(version.adapter, seconds)
        idle = self._measuring is None or self._measuring.done()
        if self._first_load and FACT not in version.details and idle and not self._residency.occupancy().waiting:
            self._measuring = asyncio.create_task(self._measure(version), name="first load")

    def _refuse(self, key: str, error: Failure) -> None:
        self._failure[key] = error
        self._pinned.discard(key)  # the policy has let the pin go; the next change of adapters tries it again
        self._follow(self._residency.failed(key, self._clock()))

    async def _measure(self, version: Version) -> None:
        """Once per version and never while others wait: whoever comes later is measured at a later load."""
        assert self._first_load is not None
        try:
            async with self._held(version) as adapter:
                await self._first_load.measure(version, adapter)
        except (EngineError, AdapterError, StorageError) as error:
            logger.warning("the effect of %s could not be measured: %s", version.id, error)
        except Exception:  # nobody waits for this task
            logger.exception("the effect of %s could not be measured", version.id)

    def _warm(self, version: Version) -> Path:
        """The version's folder, its file read once: the engine's loop must not wait for the disk."""
        path = self._registry.path(version)
        with (path / "adapter_model.safetensors").open("rb") as weights:
            while weights.read(1 << 20):
                pass
        return path

    async def _unload(self, key: str) -> None:
        adapter = self._loaded.pop(key, None)
        if adapter is None:
            return
        try:
            await self._engine.unload(adapter)
        except EngineUnavailable:
            logger.warning("adapter %s was not unloaded: the engine is down", key)
        except Exception:  # whoever waits for its place need not wait for ever
            logger.exception("adapter %s was not unloaded", key)

    async def _collect(self) -> None:
        async with self._collecting:
            keys = self._residency.needed() | (self._soft_prompts.needed() if self._soft_prompts else set())
            needed = {key.rpartition("@")[2] for key in keys} | set(self._claims)
            removed = await run_in(None, self._registry.collect, needed) if self._collects else []
            if removed:
                logger.info("removed the files of %d adapter versions that nothing needs", len(removed))
            gone = [key for key in self._versions if self._residency.state(key) == "absent" and key not in self._loaded]
            for key in gone:
                if key not in self._pinned and key not in self._residency.needed():
                    del self._versions[key]
                    self._failure.pop(key, None)
