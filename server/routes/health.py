"""Whether the process is up, whether it can answer, and what it measures."""

from __future__ import annotations

import asyncio
import logging
import time

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from adapters.names import SHORT_DIGITS
from server.metrics import CONTENT_TYPE
from server.retrieval_metrics import read_figures
from server.routing_metrics import render as routing_metrics_text
from server.services import Services, ServicesDep, get_caller
from server.storage.errors import StorageError
from server.threads import run_in

router = APIRouter()

logger = logging.getLogger(__name__)

FIGURES_SECONDS = 2.0  # well below the time that Prometheus waits


@router.api_route("/health", methods=["GET", "HEAD"])  # some load balancers ask by HEAD
async def health() -> Response:
    """200 as long as the process answers at all."""
    return JSONResponse({"status": "ok"})


@router.api_route("/ready", methods=["GET", "HEAD"])  # some load balancers ask by HEAD
async def ready(services: ServicesDep) -> Response:
    """200 only when a request would be answered; load balancers send traffic by this."""
    if services.admission.draining:
        return JSONResponse({"status": "draining"}, status_code=503, headers={"Retry-After": "5"})
    if not services.engine.alive():
        return JSONResponse({"status": "the engine is down"}, status_code=503, headers={"Retry-After": "5"})
    if services.freshness.is_stale():
        return JSONResponse({"status": "the database does not answer"}, status_code=503, headers={"Retry-After": "5"})
    return JSONResponse({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request, services: ServicesDep) -> Response:
    """Prometheus text: ours by adapter, then vLLM's with public names."""
    if not services.settings.metrics_open:
        await get_caller(request, services)
    await _look_at_the_database(services)
    text = services.metrics.render(services.engine.metrics(), _public_id)
    return Response(text, media_type=CONTENT_TYPE)


@router.get("/metrics/routing")
async def routing_metrics(request: Request, services: ServicesDep) -> Response:
    """Prometheus text for a router in front of several servers: what is in memory here, and how much waits."""
    if not services.settings.metrics_open:
        await get_caller(request, services)
    return Response(routing_metrics_text(services, time.time()), media_type=CONTENT_TYPE)


async def _look_at_the_database(services: Services) -> None:
    """Figures of before stay where the database does not answer: the rest of the metrics is wanted then above all."""
    try:
        async with asyncio.timeout(FIGURES_SECONDS):
            figures = await run_in(services.storage_pool, read_figures, services.database, services.settings.index_dir)
            jobs = await run_in(services.storage_pool, services.jobs.counts)
    except (StorageError, TimeoutError) as error:
        logger.warning("figures of files and jobs could not be read: %s", error or "the database is slow")
        return
    services.metrics.retrieval.show(figures)
    services.metrics.training.show(jobs)


def _public_id(engine_name: str) -> str:
    """`<adapter>@<64 hex>` as clients know it."""
    name, _, digest = engine_name.rpartition("@")
    return f"{name}@{digest[:SHORT_DIGITS]}"
