"""One replica: the whole application over an engine of its own, called by method instead of over a socket."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp

from deploy.ray.calls import call
from deploy.ray.cores import cores_of
from deploy.ray.folder import ReplicaFolder
from deploy.ray.messages import Request, Start
from deploy.ray.router import RESIDENT
from server.agreement import follow
from server.app import create_app
from server.app_process import ENGINE_CHECK_SECONDS, EXIT_ENGINE_DEAD, LAST_FRAMES_SECONDS, leave
from server.boot import boot
from server.logs import configure, configure_engine, quiet_children
from server.services import Services
from server.settings import load_settings
from server.upkeep import keep_up

logger = logging.getLogger(__name__)

BIND = "VLLM_CPU_OMP_THREADS_BIND"
REPLICA_HEADER = b"x-manyhats-replica"
REQUEST_ID_HEADER = b"x-request-id"  # Ray's proxy has given the request its id, and tells it


class EngineDown(Exception):
    """What Ray is told by a health check."""


class Replica:
    """The deployment that Ray multiplies."""

    async def __init__(
        self, environ: Mapping[str, str], bind_cores: Sequence[str], cpus: float, vllm_args: Sequence[str]
    ) -> None:
        """Start the engine; Ray sends requests once this has returned.

        environ: the MANYHATS_ settings. bind_cores, cpus: see `cores_of`.
        """
        self._folder = await asyncio.to_thread(ReplicaFolder.take, load_settings(environ))
        settings = self._folder.settings
        configure(settings)
        configure_engine(settings)
        quiet_children(settings)
        cores = cores_of(
            self._folder.number,
            bind_cores=bind_cores,
            cpus=cpus,
            allowed=list(os.sched_getaffinity(0)),
            flags=(*shlex.split(settings.vllm_args), *vllm_args),
        )
        if cores is not None and (bind_cores or BIND not in os.environ):
            os.environ[BIND] = cores
        self._name = str(self._folder.number).encode()
        self._arrived: Counter[bool] = Counter()  # requests for an adapter, by whether it was resident
        self._services: Services = await boot(settings, extra=vllm_args)
        self._app: ASGIApp = create_app(self._services)
        self._beside = [
            asyncio.create_task(follow(self._services)),
            asyncio.create_task(keep_up(self._services)),
            asyncio.create_task(self._end_with_engine()),
        ]

    async def answer(self, request: Request, version: str) -> AsyncGenerator[Start | bytes, None]:
        """The application's answer; `version` is the one for which the router chose this replica, "" for none."""
        if version:
            self._arrived[version in self._services.slots.occupancy().held] += 1
        async for part in call(self._app, request, _parts(request.body)):
            if isinstance(part, Start):
                kept = (header for header in part.headers if header[0] != REQUEST_ID_HEADER)
                yield Start(status=part.status, headers=(*kept, (REPLICA_HEADER, self._name)))
            else:
                yield part

    async def metrics(self, request: Request) -> tuple[str, Start, bytes]:
        """This replica's number, and its whole answer to GET /metrics."""
        start, body = Start(status=500, headers=()), b""
        async for part in call(self._app, request, _parts(b"")):
            if isinstance(part, Start):
                start = part
            else:
                body += part
        if start.status == 200:
            body += self._own_metrics().encode()
        return self._name.decode(), start, body

    async def facts(self) -> dict[str, Any]:
        """What the ingress must know to tell versions: the base model's fingerprint, and the embedder's names."""
        return {
            "base_fingerprint": self._services.base.fingerprint,
            "embedders": sorted({"embedder", self._services.embedder.name}),
        }

    async def record_routing_stats(self) -> dict[str, Any]:
        """Asked by Ray for its router: the versions that are here or on their way."""
        return {RESIDENT: sorted(self._services.slots.needed())}

    async def check_health(self) -> None:
        """Asked by Ray; raising means that this replica is to be replaced."""
        if not self._services.engine.alive():
            raise EngineDown("the engine has died")

    async def __del__(self) -> None:
        """Called by Ray once no request is running any more: background answers end, then the engine."""
        if not hasattr(self, "_beside"):
            return  # it was never ready
        services = self._services
        await services.admission.drain(services.settings.drain_seconds)
        await services.background.drain(0)
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await services.slots.close()
        if services.engine.alive():
            await services.engine.close()
        services.close()
        self._folder.close()

    async def _end_with_engine(self) -> None:
        """An engine's death is final: this process ends too, and Ray starts another at once."""
        while self._services.engine.alive():  # noqa: ASYNC110  # the engine has no event for it
            await asyncio.sleep(ENGINE_CHECK_SECONDS)
        logger.error("the engine has died; this replica ends, to be started anew with it")
        await asyncio.sleep(LAST_FRAMES_SECONDS)
        leave(EXIT_ENGINE_DEAD)

    def _own_metrics(self) -> str:
        name = "manyhats_routed_requests_total"
        lines = [
            f"# HELP {name} Requests for an adapter that the router sent here, by whether it was resident.",
            f"# TYPE {name} counter",
            *(f'{name}{{resident="{str(was).lower()}"}} {self._arrived[was]}' for was in (True, False)),
        ]
        return "".join(f"{line}\n" for line in lines)


async def _parts(body: bytes | tuple[Any, ...]) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        if body:
            yield body
        return
    for reference in body:
        yield await reference
