"""Vectors of questions for every search of this process: in micro-batches, off the event loop, with a small cache."""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.threads import run_in

BATCH = 32  # texts embedded in one go
CACHED_CHARS = 4096  # longer texts are hardly asked twice, and would make the cache large

Vector = NDArray[np.float32]  # shape (dimensions,), of unit length
Vectors = NDArray[np.float32]  # shape (n, dimensions), rows of unit length


class QueryEmbedder(Protocol):
    """What is needed of an embedder."""

    @property
    def dimensions(self) -> int: ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


@dataclass(slots=True)
class _Wanted:
    """One text that is being embedded, or will be with the next batch."""

    made: asyncio.Future[Vector] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    waiters: int = 0


class QueryVectors:
    """What comes while the thread is busy goes together in the next batch; the same text is embedded once."""

    def __init__(self, embedder: QueryEmbedder, pool: Executor, *, cache_size: int = 1024) -> None:
        self._embedder = embedder
        self._pool = pool
        self._cache_size = cache_size
        self._cache: OrderedDict[str, Vector] = OrderedDict()  # the longest unused first
        self._wanted: dict[str, _Wanted] = {}  # in the batch that runs, or waiting
        self._waiting: dict[str, _Wanted] = {}  # those of them that are in no batch yet, first come first
        self._working: asyncio.Task[None] | None = None

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), dimensions), in the order of the texts.

        Raises what the embedder raised for the batch that one of them was in; the next call tries again.
        """
        if not texts:
            return np.zeros((0, self._embedder.dimensions), dtype=np.float32)
        found = {text: vector for text in texts if (vector := self._cached(text)) is not None}
        wanted = {text: self._want(text) for text in texts if text not in found}
        if wanted:
            try:
                # `wait`, since awaiting a future cancels it together with who awaits it, and others wait for it too
                await asyncio.wait([one.made for one in wanted.values()])
            finally:
                for text, one in wanted.items():
                    self._leave(text, one)
            found |= {text: one.made.result() for text, one in wanted.items()}
        return np.stack([found[text] for text in texts])

    def _cached(self, text: str) -> Vector | None:
        vector = self._cache.get(text)
        if vector is not None:
            self._cache.move_to_end(text)
        return vector

    def _want(self, text: str) -> _Wanted:
        one = self._wanted.get(text)
        if one is None:
            one = self._wanted[text] = self._waiting[text] = _Wanted()
        one.waiters += 1
        if self._working is None:
            # a context of its own: the batch is nobody's request
            self._working = asyncio.get_running_loop().create_task(self._work(), context=contextvars.Context())
        return one

    def _leave(self, text: str, one: _Wanted) -> None:
        one.waiters -= 1
        if not one.waiters and self._waiting.get(text) is one:  # nobody wants it any more, and it has not begun
            del self._waiting[text], self._wanted[text]

    async def _work(self) -> None:
        """Batch after batch, until nothing waits."""
        try:
            while self._waiting:
                batch = dict(list(self._waiting.items())[:BATCH])
                for text in batch:
                    del self._waiting[text]
                await self._embed(batch)
        finally:
            self._working = None
            self._fail(self._waiting, RuntimeError("the server is stopping"))  # this task was cancelled
            self._waiting.clear()

    async def _embed(self, batch: dict[str, _Wanted]) -> None:
        try:
            made = await run_in(self._pool, self._embedder.embed_queries, list(batch))
            rows = list(zip(batch, made, strict=True))
        except Exception as error:  # noqa: BLE001 -- who waits gets it
            self._fail(batch, error)
            return
        except BaseException:
            self._fail(batch, RuntimeError("the server is stopping"))
            raise
        for text, vector in rows:
            self._wanted.pop(text).made.set_result(vector)
            self._keep(text, np.array(vector))  # a copy: a row would keep its whole batch

    def _fail(self, batch: dict[str, _Wanted], error: Exception) -> None:
        for text, one in batch.items():
            del self._wanted[text]
            one.made.set_exception(error)
            one.made.exception()  # seen, also when all who waited have left

    def _keep(self, text: str, vector: Vector) -> None:
        if len(text) > CACHED_CHARS:
            return
        self._cache[text] = vector
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
