"""Questions that come together are embedded together; who leaves or fails harms nobody else."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.embedding import Embedder
from server.query_vectors import BATCH, CACHED_CHARS, QueryVectors


class Counting:
    """An embedder whose vectors say which text they are of, and which waits until it may go on."""

    dimensions = 2

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.error: Exception | None = None

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.batches.append(list(texts))
        self.begun.release()
        assert self.may_go_on.wait(30)
        if self.error:
            raise self.error
        return np.array([[len(text), hash(text) % 1000] for text in texts], dtype=np.float32)

    def expected(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[len(text), hash(text) % 1000] for text in texts], dtype=np.float32)


@pytest.fixture
def embedder() -> Counting:
    return Counting()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def queries(embedder: Counting, pool: ThreadPoolExecutor) -> QueryVectors:
    return QueryVectors(embedder, pool)


async def begin(queries: QueryVectors, *texts: str) -> asyncio.Task[NDArray[np.float32]]:
    """A request that has come as far as it can."""
    task = asyncio.create_task(queries.vectors(texts))
    await asyncio.sleep(0)
    return task


async def busy(embedder: Counting, queries: QueryVectors) -> asyncio.Task[NDArray[np.float32]]:
    """A first request, in the thread and held there."""
    embedder.may_go_on.clear()
    task = await begin(queries, "first")
    assert await asyncio.to_thread(embedder.begun.acquire, timeout=30)
    return task


async def test_in_the_order_of_the_texts(embedder: Counting, queries: QueryVectors) -> None:
    texts = ["b", "aaa", "b", "cc"]
    np.testing.assert_array_equal(await queries.vectors(texts), embedder.expected(texts))
    assert embedder.batches == [["b", "aaa", "cc"]]
    assert (await queries.vectors([])).shape == (0, 2)


async def test_what_comes_while_the_thread_is_busy_goes_together(embedder: Counting, queries: QueryVectors) -> None:
    first = await busy(embedder, queries)
    others = [await begin(queries, f"question {number % 5}", "first") for number in range(20)]
    embedder.may_go_on.set()
    await asyncio.gather(first, *others)
    assert embedder.batches == [["first"], [f"question {number}" for number in range(5)]]
    np.testing.assert_array_equal(await others[7], embedder.expected(["question 2", "first"]))


async def test_batches_are_bounded(embedder: Counting, queries: QueryVectors) -> None:
    first = await busy(embedder, queries)
    more = await begin(queries, *(str(number) for number in range(BATCH * 2 + 1)))
    embedder.may_go_on.set()
    await asyncio.gather(first, more)
    assert [len(batch) for batch in embedder.batches] == [1, BATCH, BATCH, 1]


async def test_the_second_time_costs_nothing(embedder: Counting, queries: QueryVectors) -> None:
    one = await queries.vectors(["what?"])
    one[:] = 0  # the caller's own
    np.testing.assert_array_equal(await queries.vectors(["what?"]), embedder.expected(["what?"]))
    assert len(embedder.batches) == 1


async def test_the_longest_unused_is_forgotten(embedder: Counting, pool: ThreadPoolExecutor) -> None:
    queries = QueryVectors(embedder, pool, cache_size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await queries.vectors([text])
    assert embedder.batches == [["a"], ["b"], ["c"], ["b"]]


async def test_more_texts_than_the_cache_holds(embedder: Counting, pool: ThreadPoolExecutor) -> None:
    texts = [str(number) for number in range(100)]
    queries = QueryVectors(embedder, pool, cache_size=3)
    np.testing.assert_array_equal(await queries.vectors(texts), embedder.expected(texts))


async def test_very_long_texts_are_not_kept(embedder: Counting, queries: QueryVectors) -> None:
    for _ in range(2):
        await queries.vectors(["a" * (CACHED_CHARS + 1)])
    assert len(embedder.batches) == 2


async def test_who_leaves_harms_nobody(embedder: Counting, queries: QueryVectors) -> None:
    first = await busy(embedder, queries)
    same, waiting, left_alone = (
        await begin(queries, "first"),
        await begin(queries, "second"),
        await begin(queries, "second", "third"),
    )
    for task in (first, left_alone):
        task.cancel()
    await asyncio.wait([first, left_alone])
    embedder.may_go_on.set()
    np.testing.assert_array_equal(await same, embedder.expected(["first"]))
    np.testing.assert_array_equal(await waiting, embedder.expected(["second"]))
    assert first.cancelled()
    assert left_alone.cancelled()
    assert embedder.batches == [["first"], ["second"]]  # nobody wanted the third any more


async def test_who_left_may_come_back(embedder: Counting, queries: QueryVectors) -> None:
    first = await busy(embedder, queries)
    left = await begin(queries, "second")
    left.cancel()
    await asyncio.wait([left])
    back = await begin(queries, "second")
    embedder.may_go_on.set()
    await asyncio.gather(first, back)
    assert embedder.batches == [["first"], ["second"]]


async def test_an_error_reaches_all_of_its_batch_and_is_not_kept(embedder: Counting, queries: QueryVectors) -> None:
    first = await busy(embedder, queries)
    others = [await begin(queries, "second"), await begin(queries, "second", "third")]
    embedder.error = MemoryError("no room")
    embedder.may_go_on.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [str(result) for result in results] == ["no room"] * 3
    embedder.error = None
    np.testing.assert_array_equal(await queries.vectors(["second"]), embedder.expected(["second"]))


async def test_an_error_that_nobody_waits_for_any_more_is_silent(
    embedder: Counting, queries: QueryVectors, caplog: pytest.LogCaptureFixture
) -> None:
    first = await busy(embedder, queries)
    first.cancel()
    await asyncio.wait([first])
    embedder.error = ValueError("late")
    embedder.may_go_on.set()
    with pytest.raises(ValueError, match="late"):
        await queries.vectors(["next"])
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_pool_that_is_closed(embedder: Counting) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        await QueryVectors(embedder, pool).vectors(["a"])


async def test_a_loop_that_ends_tells_who_waits(embedder: Counting, queries: QueryVectors) -> None:
    first = await busy(embedder, queries)
    second = await begin(queries, "second")
    assert queries._working is not None
    queries._working.cancel()
    embedder.may_go_on.set()
    for task in (first, second):
        with pytest.raises(RuntimeError, match="stopping"):
            await task
    np.testing.assert_array_equal(await queries.vectors(["second"]), embedder.expected(["second"]))


async def test_an_embedder_that_miscounts_is_an_error(
    embedder: Counting, queries: QueryVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "embed_queries", lambda texts: np.ones((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="shorter"):
        await queries.vectors(["a", "b"])


async def test_with_the_embedder_itself(embedder: Counting, pool: ThreadPoolExecutor) -> None:
    real = Embedder(backend="torch")
    made = await QueryVectors(real, pool).vectors(["a cat sleeps", "income tax"])
    np.testing.assert_allclose(made, real.embed_queries(["a cat sleeps", "income tax"]), atol=1e-5)
