"""The HTTP application over one record of services."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from server import error_handlers
from server.request_log import ADAPTER_PATHS, FILE_PATHS, BodyLimit, RequestLog, Uploads
from server.routes import (
    adapters,
    assistants,
    console,
    embeddings,
    file_batches,
    files,
    fine_tuning,
    generation,
    health,
    models,
    responses,
    store_files,
    store_search,
    vector_stores,
)
from server.services import Services

ROUTERS = (
    generation.router,
    responses.router,
    embeddings.router,
    files.router,
    vector_stores.router,
    store_files.router,
    file_batches.router,
    store_search.router,
    models.router,
    adapters.router,
    fine_tuning.router,
    assistants.router,
    health.router,
    console.router,
)


RATE_LIMIT_HEADERS = [
    f"x-ratelimit-{figure}-{kind}" for figure in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
]


def create_app(services: Services) -> FastAPI:
    """Every route and middleware; import and call have no other effect."""
    app = FastAPI(title="Manyhats", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router)
    error_handlers.install(app)
    settings = services.settings
    for_adapters = Uploads(
        paths=ADAPTER_PATHS, max_bytes=settings.max_adapter_bytes, setting="MANYHATS_MAX_ADAPTER_BYTES"
    )
    for_files = Uploads(paths=FILE_PATHS, max_bytes=settings.max_file_bytes, setting="MANYHATS_MAX_FILE_BYTES")
    app.add_middleware(BodyLimit, max_body_bytes=settings.max_body_bytes, uploads=(for_adapters, for_files))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After", *RATE_LIMIT_HEADERS],
        )
    app.add_middleware(RequestLog, metrics=services.metrics)
    return app
