"""POST /v1/vector_stores/{id}/search: a question's best passages in a store of one's own, or in a shared one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from retrieval.errors import QueryInvalid
from retrieval.search import Hit
from server.answering import read_as
from server.deadline import timed_out
from server.disconnect import while_connected
from server.search_options import read_search_options
from server.searching import search
from server.services import CallerDep, ServicesDep

router = APIRouter()

RESULTS = 10  # unless told; OpenAI's default
MOST_QUERIES = 16  # each is a search of its own
QUERY_CHARACTERS = 32_768  # an embedder sees a page or two at most, and every word is looked up
CHARACTERS_PER_TOKEN = 4


class SearchRequest(BaseModel):
    """https://platform.openai.com/docs/api-reference/vector-stores/search"""

    model_config = ConfigDict(extra="forbid")
    query: Any = None
    rewrite_query: bool | None = None  # a search has no conversation to rewrite it from: taken as it is
    max_num_results: Any = None
    filters: Any = None
    ranking_options: Any = None


@router.post("/v1/vector_stores/{vector_store_id}/search")
async def search_store(vector_store_id: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Several queries are searched each by itself; a passage that several find comes once, with its best score."""
    body = await read_as(request, SearchRequest)
    queries = _queries(body.query)
    options = read_search_options(body.model_dump(), results=RESULTS, has_reranker=bool(services.settings.reranker))
    tokens = sum(len(query) for query in queries) // CHARACTERS_PER_TOKEN

    async def found() -> tuple[list[Hit], Mapping[str, str]]:
        async with services.admission.enter(caller, tokens) as ticket:
            return await search(services, caller, [vector_store_id], queries, options), ticket.headers

    try:
        async with asyncio.timeout(services.settings.request_timeout_seconds):
            hits, headers = await while_connected(request, found())  # a client that leaves the queue leaves its place
    except TimeoutError:
        raise timed_out(services) from None
    return JSONResponse(
        {
            "object": "vector_store.search_results.page",
            "search_query": queries,
            "data": [result(hit) for hit in hits],
            "has_more": False,
            "next_page": None,
        },
        headers=headers,
    )


def _queries(raw: Any) -> list[str]:
    queries = [raw] if isinstance(raw, str) else raw
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise QueryInvalid("query: give the text to search for, or a list of texts", param="query")
    if not 1 <= len(queries) <= MOST_QUERIES:
        raise QueryInvalid(f"query: {len(queries)} texts; give 1 to {MOST_QUERIES}", param="query")
    longest = max(map(len, queries))
    if longest > QUERY_CHARACTERS:
        raise QueryInvalid(f"query: {longest:,} characters; give at most {QUERY_CHARACTERS:,}", param="query")
    return queries


def result(hit: Hit) -> dict[str, Any]:
    """OpenAI's search result, and where in the file the passage stands."""
    passage = hit.passage
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": hit.score,
        "attributes": dict(passage.attributes),
        "content": [{"type": "text", "text": passage.text}],
        "chunk_id": passage.chunk_id,
        "page": passage.page,
        "heading": list(passage.heading),
        "start": passage.start,
        "end": passage.end,
        "scores": {"dense": hit.dense, "lexical": hit.lexical},
    }
