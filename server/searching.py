"""A search on a caller's behalf: what it may search, the questions' vectors, and the search off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from retrieval.embedding import Vectors
from retrieval.errors import QueryInvalid, RetrievalError, SearchFailed
from retrieval.search import Hit, SearchOptions
from server.storage.assistant import Assistant
from server.storage.callers import Caller
from server.storage.errors import StorageError
from server.store_rights import searchable_stores, visible_store
from server.threads import run_in

if TYPE_CHECKING:
    from server.services import Services

__all__ = ["search", "visible_store"]

logger = logging.getLogger(__name__)

EMPTY = "a question without any text finds nothing; give some words"


async def search(
    services: Services,
    caller: Caller,
    store_ids: Sequence[str],
    queries: Sequence[str],
    options: SearchOptions,
    *,
    assistant: Assistant | None = None,
) -> list[Hit]:
    """The best passages of all these stores for all these questions: best first, none twice, at its best score.

    store_ids: ids or names. assistant: one that the caller was allowed to name, whose stores it may then search.
    Raises RetrievalError (StoreNotFound for a store that the caller may not search) or StorageError.
    """
    if not queries or any(not query.strip() for query in queries):
        raise QueryInvalid(EMPTY, param="query")
    async with _failing_clearly():
        with services.metrics.retrieval.stage("stores"):
            stores = await run_in(services.retrieval_pool, _searchable, store_ids, caller, services, assistant)
        vectors: Vectors | None = None
        if options.ranker != "lexical":
            with services.metrics.retrieval.stage("embed"):
                vectors = await _embedded(services, stores, queries, options)
        with services.metrics.retrieval.stage("search"):
            found = await asyncio.gather(
                *(
                    run_in(
                        services.retrieval_pool,
                        services.searcher.search,
                        stores,
                        query,
                        None if vectors is None else vectors[place],
                        options,
                    )
                    for place, query in enumerate(queries)
                )
            )
    services.store_use.note(stores)
    return found[0] if len(found) == 1 else _merged(found, options.max_num_results)


async def _embedded(
    services: Services, stores: Sequence[str], queries: Sequence[str], options: SearchOptions
) -> Vectors:
    """The questions' vectors; beside the first of them its words are looked up, which needs no vector."""
    making = asyncio.ensure_future(services.query_vectors.vectors(queries))
    try:
        if options.ranker != "dense":
            await run_in(services.retrieval_pool, services.searcher.ahead, stores, queries[0], options)
        return await making
    finally:
        making.cancel()


def _searchable(store_ids: Sequence[str], caller: Caller, services: Services, assistant: Assistant | None) -> list[str]:
    """Their ids, each once, in the order given."""
    stores = searchable_stores(store_ids, caller, services, assistant=assistant)
    return list(dict.fromkeys(store.id for store in stores))


def _merged(found: Sequence[Sequence[Hit]], most: int) -> list[Hit]:
    best: dict[int, Hit] = {}
    for hits in found:
        for hit in hits:
            known = best.get(hit.passage.chunk_id)
            if known is None or hit.score > known.score:
                best[hit.passage.chunk_id] = hit
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.passage.chunk_id))[:most]


@asynccontextmanager
async def _failing_clearly() -> AsyncIterator[None]:
    """A search that broke is a failed search, not an empty one and not a nameless error."""
    try:
        yield
    except SearchFailed as error:
        if isinstance(error.__cause__, StorageError):  # which retrieval does not know, and clients are told of
            raise error.__cause__ from error.__cause__.__cause__
        raise
    except (RetrievalError, StorageError):
        raise
    except Exception as error:
        logger.exception("a search failed")
        raise SearchFailed("the search failed; the server's log says why") from error
