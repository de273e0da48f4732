"""GET /v1/models: every name that `model` may take and that this caller may use."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from adapters.adapter import Adapter, Version
from adapters.names import split_permanent
from server.auth import may_use
from server.errors import model_not_found
from server.services import CallerDep, Services, ServicesDep
from server.storage.assistant import Assistant

router = APIRouter()

EMBEDDER = "embedder"


@router.get("/v1/models")
async def list_models(caller: CallerDep, services: ServicesDep, versions: bool = Query(False)) -> Response:
    """Base, embedder, adapters and assistants; with `?versions=true` each adapter's versions too.

    https://platform.openai.com/docs/api-reference/models/list
    """
    entries = [entry for entry in _entries(services, versions=versions) if may_use(caller, entry["id"])]
    return JSONResponse({"object": "list", "data": entries})


@router.get("/v1/models/{name:path}")
async def retrieve_model(name: str, caller: CallerDep, services: ServicesDep) -> Response:
    """One name, also `<adapter>@<version prefix>`, a fine-tuning job's `ft:…` and an assistant's id.

    https://platform.openai.com/docs/api-reference/models/retrieve
    """
    assistant = services.assistants.find(name)
    if not may_use(caller, name, assistant.name if assistant else name):
        raise model_not_found(name)
    for entry in _entries(services, versions=False):
        if entry["id"] == name:
            return JSONResponse(entry)
    if assistant is not None:
        return JSONResponse(_assistant(assistant, services))
    entry = _version(services.registry.resolve(name, sticky=caller.key_id), services)
    return JSONResponse({**entry, "id": name} if split_permanent(name) else entry)


def _entries(services: Services, *, versions: bool) -> list[dict[str, Any]]:
    base = {
        **_entry(services.settings.base_name, services.base.name, created=0, kind="base", status="loaded"),
        "max_model_len": services.engine.facts.context_tokens,
    }
    entries = [base]
    entries += [
        _entry(name, services.embedder.name, created=0, kind="embedder", status="loaded")
        for name in dict.fromkeys((EMBEDDER, services.embedder.name))
    ]
    for adapter in services.registry.list():
        if adapter.base_fingerprint != services.base.fingerprint:
            continue  # made for another base: the name is kept, but nothing would answer under it
        entries.append(_adapter(adapter, services))
        if versions:
            entries += [_version(version, services) for version in adapter.versions]
    return entries + [_assistant(assistant, services) for assistant in services.assistants.all()]


def _adapter(adapter: Adapter, services: Services) -> dict[str, Any]:
    entry = _entry(adapter.name, adapter.name, created=adapter.created_at, kind="adapter", status=adapter.status)
    entry["parent"] = services.settings.base_name
    active = adapter.active
    if adapter.status == "ready" and active:
        loaded = any(services.slots.is_loaded(version) for version in active)
        entry["status"] = "loaded" if loaded else "ready"
        entry["version"] = active[0].id
    return entry


def _version(version: Version, services: Services) -> dict[str, Any]:
    status = "failed" if version.error else "loaded" if services.slots.is_loaded(version) else "ready"
    entry = _entry(
        version.id,
        f"{version.adapter} ({version.digest[:12]})",
        created=version.created_at,
        kind="version",
        status=status,
    )
    return {**entry, "parent": services.settings.base_name, "adapter": version.adapter}


def _assistant(assistant: Assistant, services: Services) -> dict[str, Any]:
    shown = assistant.description or assistant.name
    entry = _entry(assistant.name, shown, created=assistant.created_at, kind="assistant", status="ready")
    return {**entry, "parent": assistant.model}


def _entry(name: str, shown: str, *, created: float, kind: str, status: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(created),
        "owned_by": "manyhats",
        "name": shown,  # front ends show this
        "parent": None,
        "status": status,
        "type": kind,
    }
