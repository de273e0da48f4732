"""POST /v1/embeddings, answered by the retrieval embedder."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from retrieval import cl100k
from retrieval.embedding import Embedder, Vectors
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

TokenIds = Annotated[list[int], Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """https://platform.openai.com/docs/api-reference/embeddings/create"""

    model_config = ConfigDict(extra="ignore")

    model: str
    input: str | TokenIds | Annotated[list[str], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


@router.post("/v1/embeddings")
async def create_embeddings(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Unit vectors, in the order of the input; token ids are cl100k's, as OpenAI's clients mean them."""
    body = await read_as(request, EmbeddingRequest)
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
    texts = _texts(body.input)
    if len(texts) > MAX_INPUTS:
        raise ApiError(400, f"{len(texts)} inputs; at most {MAX_INPUTS} in one request", param="input")
    if any(not text for text in texts):
        raise ApiError(400, "input: an empty text has no meaning to embed; leave it out", param="input")
    async with services.admission.enter(caller, sum(len(text) for text in texts) // 4) as ticket:
        try:
            async with asyncio.timeout(services.settings.request_timeout_seconds):
                vectors, tokens = await while_connected(request, _embedded(texts, services))
        except TimeoutError:
            raise timed_out(services) from None
        ticket.settle(tokens)
    data = [
        {
            "object": "embedding",
            "index": i,
            "embedding": base64.b64encode(vector.tobytes()).decode()
            if body.encoding_format == "base64"
            else vector.tolist(),
        }
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": data, "model": body.model, "usage": usage}, headers=ticket.headers)


async def _embedded(texts: list[str], services: Services) -> tuple[Vectors, int]:
    """Batch by batch, so that small requests pass large ones, and one whose client has left stops."""
    made, tokens = [], 0
    for start in range(0, len(texts), BATCH):
        vectors, counted = await run_in(
            services.embedding_pool, _embed, services.embedder, texts[start : start + BATCH]
        )
        made.append(vectors)
        tokens += counted
    return np.concatenate(made), tokens


def _embed(embedder: Embedder, texts: list[str]) -> tuple[Vectors, int]:
    return embedder.embed(texts), embedder.count_tokens(texts)


def _texts(given: str | list[int] | list[str] | list[list[int]]) -> list[str]:
    if isinstance(given, str):
        return [given]
    many = [given] if isinstance(given[0], int) else given
    try:
        return [one if isinstance(one, str) else cl100k.decode(one) for one in many]
    except cl100k.UnknownToken as error:
        raise ApiError(400, f"input: {error}", param="input", code="invalid_token") from None
