"""Soft prompts in the engine: small, without slots, read when they are first asked for.

Any number computes at once, so nobody waits for a place; only how many are kept is limited.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from adapters.adapter import Version
from adapters.registry import Registry
from server.engine.base import Engine, EngineAdapter
from server.threads import run_in

KEPT = 64  # idle ones included; each is a few megabytes at most


class SoftPrompts:
    """Those that the engine has read. One event loop owns it."""

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        *,
        on_load: Callable[[Version, float], None] = lambda _version, _seconds: None,
        kept: int = KEPT,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._on_load = on_load
        self._kept = kept
        self._loaded: OrderedDict[str, EngineAdapter] = OrderedDict()  # by engine name, least recently used first
        self._uses: Counter[str] = Counter()
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, version: Version) -> AsyncIterator[EngineAdapter]:
        """Keep it for the request's time; raises LoadFailed, AdapterNotFound or EngineUnavailable."""
        key = version.engine_name
        self._uses[key] += 1
        try:
            yield await self._ready(version)
        finally:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key]

    def is_loaded(self, version: Version) -> bool:
        """Whether it would be there at once."""
        return version.engine_name in self._loaded

    def needed(self) -> set[str]:
        """Engine names whose files are still to be read."""
        return self._uses.keys() - self._loaded.keys()

    async def forget_all_but(self, named: Collection[str]) -> None:
        """Let idle ones go that no name means any more."""
        async with self._changing:
            for key in [key for key in self._loaded if key not in named and not self._uses[key]]:
                await self._engine.unload(self._loaded.pop(key))

    async def _ready(self, version: Version) -> EngineAdapter:
        key = version.engine_name
        async with self._changing:
            adapter = self._loaded.get(key)
            if adapter is None:
                started = time.monotonic()
                path = await run_in(None, self._registry.path, version)
                adapter = EngineAdapter(engine_name=key, lora_id=version.lora_id, path=path, kind="soft_prompt")
                await self._engine.load(adapter)
                self._loaded[key] = adapter
                self._on_load(version, time.monotonic() - started)
                await self._make_room()
            self._loaded.move_to_end(key)
            return adapter

    async def _make_room(self) -> None:
        idle = [key for key in self._loaded if not self._uses[key]]
        for key in idle[: max(0, len(self._loaded) - self._kept)]:
            await self._engine.unload(self._loaded.pop(key))
