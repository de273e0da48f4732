"""POST /v1/embeddings, answered by the retrieval embedder."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from retrieval import cl100k
from retrieval.embedding import Embedder
from server.answering import read_as
from server.auth import may_use
from server.deadline import timed_out
from server.disconnect import while_connected
from server.errors import ApiError, model_not_found
from server.routes.models import EMBEDDER
from server.services import CallerDep, Services, ServicesDep
from server.threads import run_in

router = APIRouter()

MAX_INPUTS = 2048  # OpenAI's limit for one request
BATCH = 32  # texts embedded in one go

Encoding = Literal["float", "base64"]
TokenIds = Annotated[list[int], Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """https://platform.openai.com/docs/api-reference/embeddings/create"""

    model_config = ConfigDict(extra="ignore")

    model: str
    input: str | TokenIds | Annotated[list[str], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]
    encoding_format: Encoding = "float"
    dimensions: int | None = None
    user: str | None = None


@router.post("/v1/embeddings")
async def create_embeddings(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Unit vectors, in the order of the input; token ids are cl100k's, as OpenAI's clients mean them."""
    body = await read_as(request, EmbeddingRequest)
    request.state.model = body.model
    embedder = services.embedder
    if not may_use(caller, body.model):
        raise model_not_found(body.model)
    if body.model not in (EMBEDDER, embedder.name):
        services.catalogue.plan({"model": body.model}, caller)  # 404 for a name that means nothing
        raise ApiError(400, f"{body.model!r} generates text; embeddings come from {EMBEDDER!r}", param="model")
    if body.dimensions not in (None, embedder.dimensions):
        raise ApiError(
            400,
            f"{embedder.name} has {embedder.dimensions} dimensions and cannot give {body.dimensions}",
            param="dimensions",
        )
    texts = await run_in(None, _texts, body.input)
    if len(texts) > MAX_INPUTS:
        raise ApiError(400, f"{len(texts)} inputs; at most {MAX_INPUTS} in one request", param="input")
    if any(not text for text in texts):
        raise ApiError(400, "input: an empty text has no meaning to embed; leave it out", param="input")
    async with services.admission.enter(caller, sum(len(text) for text in texts) // 4) as ticket:
        try:
            async with asyncio.timeout(services.settings.request_timeout_seconds):
                items, tokens = await while_connected(request, _embedded(texts, body.encoding_format, services))
        except TimeoutError:
            raise timed_out(services) from None
        ticket.settle(tokens)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    rest = json.dumps({"model": body.model, "usage": usage}).removeprefix("{")
    content = f'{{"object": "list", "data": [{", ".join(items)}], {rest}'
    return Response(content, media_type="application/json", headers=ticket.headers)


async def _embedded(texts: list[str], encoding: Encoding, services: Services) -> tuple[list[str], int]:
    """Batch by batch, so that small requests pass large ones, and one whose client has left stops."""
    items: list[str] = []
    tokens = 0
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        made, counted = await run_in(services.embedding_pool, _items, services.embedder, batch, encoding, start)
        items += made
        tokens += counted
    return items, tokens


def _items(embedder: Embedder, texts: list[str], encoding: Encoding, start: int) -> tuple[list[str], int]:
    """OpenAI's embedding objects as JSON, and the tokens. One by one and off the event loop: writing a million floats
    takes seconds, in which no stream would go on.
    """
    items = []
    for index, vector in enumerate(embedder.embed(texts), start):
        numbers = base64.b64encode(vector.tobytes()).decode() if encoding == "base64" else vector.tolist()
        items.append(json.dumps({"object": "embedding", "index": index, "embedding": numbers}))
    return items, embedder.count_tokens(texts)


def _texts(given: str | list[int] | list[str] | list[list[int]]) -> list[str]:
    if isinstance(given, str):
        return [given]
    many = [given] if isinstance(given[0], int) else given
    try:
        return [one if isinstance(one, str) else cl100k.decode(one) for one in many]
    except cl100k.UnknownToken as error:
        raise ApiError(400, f"input: {error}", param="input", code="invalid_token") from None
