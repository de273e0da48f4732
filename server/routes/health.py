"""Whether the process is up, whether it can answer, and what it measures."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from adapters.names import SHORT_DIGITS
from server.services import ServicesDep, get_caller

router = APIRouter()


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
    return JSONResponse({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request, services: ServicesDep) -> Response:
    """Prometheus text: ours by adapter, then vLLM's with public names."""
    if not services.settings.metrics_open:
        await get_caller(request, services)
    text = services.metrics.render(services.engine.metrics(), _public_id)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _public_id(engine_name: str) -> str:
    """`<adapter>@<64 hex>` as clients know it."""
    name, _, digest = engine_name.rpartition("@")
    return f"{name}@{digest[:SHORT_DIGITS]}"
