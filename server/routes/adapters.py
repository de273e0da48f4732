"""Adapters over HTTP: register, list, move an alias, pin, remove; and vLLM's two runtime-loading calls."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, PlainTextResponse, Response

from adapters.adapter import Adapter, Version
from adapters.errors import AdapterError
from adapters.mix import USUAL_DENSITY, Method
from adapters.registry import FETCHING_SECONDS
from server.answering import read_as, read_body
from server.auth import require_admin
from server.errors import ApiError, invalid_request
from server.intake import MixOrder, Order, from_nothing, from_source, from_upload, is_remote
from server.patient_writes import write_patiently
from server.services import CallerDep, Services, ServicesDep
from server.threads import run_in

router = APIRouter()

STOPPED = "the server stopped while it fetched this adapter; register it again"


class Convert(BaseModel):
    """What to do with weights that would be refused as they are: a plain LoRA is made of them, by truncated SVD."""

    model_config = ConfigDict(extra="forbid")
    rank: int | None = Field(None, ge=1, description="Of this rank; else as exactly as the served rank allows.")
    error: float | None = Field(None, gt=0, lt=1, description="Or of the least rank with at most this relative error.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.rank is not None and self.error is not None:
            raise ValueError("give either `rank` or `error`")
        return self


class Mix(BaseModel):
    """A new adapter of several that are there."""

    model_config = ConfigDict(extra="forbid")
    adapters: dict[str, float] = Field(description="Names or version ids, each with its weight.")
    method: Method = "linear"
    density: float = Field(USUAL_DENSITY, gt=0, le=1, description="The share of entries that TIES and DARE keep.")
    seed: int = Field(0, ge=0, description="Of DARE's choice.")


class NewAdapter(BaseModel):
    """Body of POST /v1/adapters and, without `name` and `pin`, of POST /v1/adapters/{name}/versions."""

    model_config = ConfigDict(extra="forbid")
    name: str = ""
    source: str = ""
    pin: bool = False
    activate: bool = False
    convert: Convert | None = None
    mix: Mix | None = None  # in place of `source`


class Alias(BaseModel):
    """Body of POST /v1/adapters/{name}/alias: one version, or weights for several."""

    model_config = ConfigDict(extra="forbid")
    version: str | None = None
    traffic: dict[str, int] | None = None


class Pin(BaseModel):
    """Body of POST /v1/adapters/{name}/pin."""

    model_config = ConfigDict(extra="forbid")
    pinned: bool


@router.post("/v1/adapters")
async def create_adapter(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Register a new name. 201 for new bytes, 200 for the same again, 202 while a remote source is fetched."""
    require_admin(caller)
    return await _register(request, services, name=None)


@router.post("/v1/adapters/{name}/versions")
async def create_version(name: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Add a version under a name; the name keeps its meaning unless `activate` is true."""
    require_admin(caller)
    services.registry.get(name)
    return await _register(request, services, name=name)


@router.get("/v1/adapters")
async def list_adapters(caller: CallerDep, services: ServicesDep) -> Response:
    """Every adapter of the data directory, also those made for another base."""
    require_admin(caller)
    return JSONResponse({"object": "list", "data": [_shown(adapter, services) for adapter in services.registry.list()]})


@router.get("/v1/adapters/{name}")
async def retrieve_adapter(name: str, caller: CallerDep, services: ServicesDep) -> Response:
    """One adapter with its versions and what preflight found."""
    require_admin(caller)
    return JSONResponse(_shown(services.registry.get(name), services))


@router.post("/v1/adapters/{name}/alias")
async def move_alias(name: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Point a name to another version, back to the previous one, or to several by weight. Atomic under load."""
    require_admin(caller)
    body = await read_as(request, Alias)
    if (body.version is None) == (body.traffic is None):
        raise ApiError(
            400, "give either `version` (an id, or 'previous') or `traffic` ({version: weight})", param="version"
        )
    adapter = await run_in(
        services.storage_pool, services.registry.move_alias, name, version=body.version, traffic=body.traffic
    )
    await services.slots.follow_pins()
    return JSONResponse(_shown(adapter, services))


@router.post("/v1/adapters/{name}/pin")
async def pin_adapter(name: str, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Keep an adapter in a slot of its own, or let it go. 409 when no slot may be pinned any more."""
    require_admin(caller)
    body = await read_as(request, Pin)
    await run_in(services.storage_pool, services.registry.set_pinned, name, body.pinned)
    await services.slots.follow_pins()
    return JSONResponse(_shown(services.registry.get(name), services))


@router.delete("/v1/adapters/{name}")
async def delete_adapter(name: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Remove a name and its versions; requests that run keep theirs, and the files go when the last has ended."""
    require_admin(caller)
    fetching = services.background.task(f"adapter {name}")  # now: once it is removed, the name may have another
    removed = await run_in(services.storage_pool, services.registry.remove, name)
    if fetching is not None:
        fetching.cancel()
        await asyncio.wait([fetching])  # or its last word could meet the next adapter of this name
    await services.slots.retire(removed)
    return JSONResponse({"id": name, "object": "adapter.deleted", "deleted": True})


@router.delete("/v1/adapters/{name}/versions/{version}")
async def delete_version(name: str, version: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Remove one version that the name does not point to."""
    require_admin(caller)
    removed = await run_in(services.storage_pool, services.registry.remove_version, name, version)
    await services.slots.retire([removed])
    return JSONResponse({"id": removed.id, "object": "adapter.version.deleted", "deleted": True})


@router.post("/v1/load_lora_adapter")
async def load_lora_adapter(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """vLLM's runtime loading, on the same registry: survives restarts, and a second load is a new version."""
    require_admin(caller)
    body = await read_body(request)
    name, path = body.get("lora_name"), body.get("lora_path")
    if not isinstance(name, str) or not isinstance(path, str) or not name or not path:
        raise ApiError(400, "give both `lora_name` and `lora_path`", param="lora_name")
    again = bool(body.get("load_inplace")) and _exists(services, name)
    order = Order(name=name, source=path, stage=from_source(path), as_version=again, activate=again)
    await _take(services, order)
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


@router.post("/v1/unload_lora_adapter")
async def unload_lora_adapter(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """vLLM's runtime unloading: removes the name from the registry."""
    require_admin(caller)
    name = (await read_body(request)).get("lora_name")
    if not isinstance(name, str) or not name:
        raise ApiError(400, "give `lora_name`", param="lora_name")
    await services.slots.retire(await run_in(services.storage_pool, services.registry.remove, name))
    return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


async def _register(request: Request, services: Services, *, name: str | None) -> Response:
    """JSON with a `source`, or a form with a `file`; `name` from the path makes it a further version."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=1) as form:
            wanted, upload = _from_form(form)
            return await _registered(services, _order(wanted, name, source="upload", stage=from_upload(upload.file)))
    wanted = await read_as(request, NewAdapter)
    if wanted.mix is not None:
        if wanted.source:
            raise ApiError(400, "give either a `source` or a `mix`", param="mix")
        return await _registered(services, _order(wanted, name, source="mix", stage=from_nothing))
    if not wanted.source:
        raise ApiError(
            400, "give a `source` (a folder or URL), or send the archive as form field `file`", param="source"
        )
    stage = from_source(wanted.source, convert=wanted.convert is not None)
    order = _order(wanted, name, source=wanted.source, stage=stage)
    if not is_remote(wanted.source):
        return await _registered(services, order)
    services.sources.check(wanted.source)  # what the allow-list refuses is told now, not in the background
    if order.as_version:  # the name is there and stays as it is: the answer can wait for the bytes
        return await _registered(services, order)
    await run_in(services.storage_pool, services.registry.begin, order.name, order.source, pin=order.pin)
    services.background.start(f"adapter {order.name}", _take_later(services, replace(order, begun=True)))
    return JSONResponse(_shown(services.registry.get(order.name), services), status_code=202)


async def _registered(services: Services, order: Order) -> Response:
    version, created = await _take(services, order)
    shown = _shown(services.registry.get(order.name), services)
    return JSONResponse({**shown, "version": _version(version, services)}, status_code=201 if created else 200)


async def _take(services: Services, order: Order) -> tuple[Version, bool]:
    pool = services.fetching_pool if is_remote(order.source) else services.adapter_pool
    taken = await run_in(pool, services.intake.take, order)
    await services.slots.follow_pins()
    return taken


async def _take_later(services: Services, order: Order) -> None:
    try:
        await _take(services, order)
    except asyncio.CancelledError:  # the server stops; or the name was removed, and there is nothing to say it of
        await asyncio.shield(_fail(services, order, STOPPED, patience_seconds=0.0))
        raise
    except AdapterError as error:
        await _fail(services, order, str(error))
    except Exception:
        await _fail(services, order, "the server failed; its log says why")
        raise


async def _fail(services: Services, order: Order, reason: str, *, patience_seconds: float = FETCHING_SECONDS) -> None:
    """Its status says so, also when the database was away: the client was told to look there, and the name is taken."""
    await write_patiently(services.storage_pool, patience_seconds, services.registry.fail, order.name, reason)


def _order(wanted: NewAdapter, name: str | None, *, source: str, stage: Any) -> Order:
    if name is None and not wanted.name:
        raise ApiError(400, "give the adapter a `name`", param="name")
    return Order(
        name=name or wanted.name,
        source=source,
        stage=stage,
        pin=wanted.pin,
        convert=wanted.convert is not None,
        rank=wanted.convert.rank if wanted.convert else None,
        error=wanted.convert.error if wanted.convert else None,
        mix=MixOrder(**wanted.mix.model_dump()) if wanted.mix else None,
        as_version=name is not None,
        activate=wanted.activate,
    )


def _from_form(form: FormData) -> tuple[NewAdapter, UploadFile]:
    fields: dict[str, Any] = {key: value for key, value in form.items() if isinstance(value, str)}
    upload = form.get("file")
    if not isinstance(upload, UploadFile):
        raise ApiError(400, "send the .zip or .tar.gz as form field `file`", param="file")
    if fields.pop("mix", None) is not None:
        raise ApiError(400, "a mix is sent as JSON, without a file", param="mix")
    if isinstance(fields.get("convert"), str):
        try:
            fields["convert"] = json.loads(fields["convert"])
        except ValueError:
            raise ApiError(400, 'convert: JSON such as {"rank": 16}', param="convert") from None
    return _parsed(fields), upload


def _parsed(fields: dict[str, Any]) -> NewAdapter:
    try:
        return NewAdapter.model_validate(fields)
    except ValidationError as error:
        raise invalid_request(error.errors()) from None


def _exists(services: Services, name: str) -> bool:
    return any(adapter.name == name for adapter in services.registry.list())


def _shown(adapter: Adapter, services: Services) -> dict[str, Any]:
    ids = {version.digest: version.id for version in adapter.versions}
    return {
        "id": adapter.name,
        "object": "adapter",
        "name": adapter.name,
        "created_at": int(adapter.created_at),
        "status": adapter.status,
        "error": adapter.error,
        "source": adapter.source,
        "base": adapter.base_name,
        "fits": adapter.base_fingerprint == services.base.fingerprint,
        "pinned": adapter.pinned,
        "traffic": {ids[digest]: weight for digest, weight in adapter.traffic if digest in ids},
        "previous": {ids[d]: weight for d, weight in adapter.previous if d in ids} if adapter.previous else None,
        "versions": [_version(version, services) for version in adapter.versions],
    }


def _version(version: Version, services: Services) -> dict[str, Any]:
    used_at = services.slots.last_used_at(version)
    return {
        "id": version.id,
        "object": "adapter.version",
        "digest": version.digest,
        "created_at": int(version.created_at),
        "rank": version.rank,
        "bytes": version.size_bytes,
        "source": version.source,
        "error": version.error,
        "loaded": services.slots.is_loaded(version),
        "last_used_at": None if used_at is None else int(used_at),
        "details": dict(version.details),
    }
