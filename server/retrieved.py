"""Retrieval for one request: what it asks for, the search, and its body with the sources that were found.

body, found = await retrieve(body, plan, "chat", caller, services)   # None: nothing was asked for
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from retrieval.errors import QueryInvalid, RetrievalError
from retrieval.search import SearchOptions
from server.asking import Asked, asked
from server.assistants import Plan
from server.conversation_query import query_of, rewritten
from server.engine.base import Dialect
from server.errors import to_api_error
from server.grounding import unsearched
from server.room import fitted, noted
from server.searching import search
from server.services import Services
from server.source import Dropped, Source
from server.storage.callers import Caller
from server.storage.errors import StorageError
from server.turns import turns_of

__all__ = ["Dropped", "Retrieved", "Source", "retrieve"]

NO_WORDS = "no turn of the user's has words to search for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """What a search brought for one answer."""

    queries: tuple[str, ...]  # what was searched for; empty where nothing was
    sources: tuple[Source, ...]  # in the prompt, by number
    dropped: tuple[Dropped, ...]  # found, and not in the prompt
    failure: str | None  # why the search failed, for clients; None when it did not
    skipped: str | None  # why there was none; None when there was
    options: SearchOptions
    include_results: bool  # a response's `file_search_call` shows what was found
    strip_markers: bool  # `[1]` goes out of the answer

    def as_object(self, cited: Collection[int] | None) -> dict[str, Any]:
        """The `retrieval` object of answers.

        cited: the numbers that the answer refers to; None while that is not known yet.
        """
        sources = [source.as_object() for source in self.sources]
        if cited is not None:
            sources = [{**source, "cited": source["number"] in cited} for source in sources]
        return {
            "query": self.queries[0] if self.queries else None,
            "queries": list(self.queries),
            "sources": sources,
            "dropped": [one.as_object() for one in self.dropped],
            "failed": self.failure,
            "skipped": self.skipped,
        }


async def retrieve(
    body: dict[str, Any],
    plan: Plan,
    dialect: Dialect,
    caller: Caller,
    services: Services,
    *,
    said: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], Retrieved | None]:
    """The body for the engine, with sources before the words of the last user turn, and what they are.

    body: with the assistant's part in it; said: as the client sent it, whose turns decide what is searched for (the
    same as `body` if not given). All fields of ours are taken out, also when nothing is searched for.
    Raises ApiError 400 for what is asked wrongly, and RetrievalError or StorageError for a search that failed; only a
    response goes on without sources then, since its `file_search_call` says so.
    """
    forwarded, wanted = asked(body, plan, dialect, services.settings)
    if wanted is None:
        return forwarded, None
    turns = turns_of(said or forwarded, dialect)
    query = query_of(turns)
    if not query:
        return forwarded, _found(wanted, skipped=NO_WORDS)
    if wanted.rewrite_query:
        query = await rewritten(turns, plan, services, request_id=uuid.uuid4().hex) or query
    try:
        hits = await search(services, caller, wanted.store_ids, [query], wanted.options, assistant=plan.assistant)
    except QueryInvalid as error:  # such as one without a single letter: no fault of the request's
        return forwarded, _found(wanted, skipped=str(error))
    except (RetrievalError, StorageError) as error:
        told = to_api_error(error)
        if dialect != "responses" or told.status < 500:
            raise
        forwarded = await noted(forwarded, plan, dialect, unsearched, services.engine)
        return forwarded, _found(wanted, (query,), failure=told.message)
    packed = await fitted(forwarded, plan, dialect, hits, services.engine)
    return packed.body, _found(wanted, (query,), sources=packed.sources, dropped=packed.dropped)


def _found(
    wanted: Asked,
    queries: tuple[str, ...] = (),
    *,
    sources: tuple[Source, ...] = (),
    dropped: tuple[Dropped, ...] = (),
    failure: str | None = None,
    skipped: str | None = None,
) -> Retrieved:
    return Retrieved(
        queries=queries,
        sources=sources,
        dropped=dropped,
        failure=failure,
        skipped=skipped,
        options=wanted.options,
        include_results=wanted.include_results,
        strip_markers=wanted.strip_markers,
    )
