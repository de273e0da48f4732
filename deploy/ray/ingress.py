"""The ingress deployment: the application that reads requests, in a process with a handle to the replicas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import ray
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from deploy.ray.forwarding import create_ingress
from deploy.ray.messages import ReplicaLost, ReplicasFull, Request, Start
from deploy.ray.metrics import merged
from deploy.ray.versions import Versions
from server.logs import configure
from server.settings import load_settings

logger = logging.getLogger(__name__)

LOST = (ActorDiedError, ActorUnavailableError, RayActorError, ReplicaUnavailableError)
FACTS_SECONDS = 5.0  # pause between two tries to learn what the replicas serve


@serve.ingress()
class Ingress:
    """Knows names and keys, and no model."""

    async def __init__(
        self,
        replicas: DeploymentHandle,
        environ: Mapping[str, str],
        workers: DeploymentHandle | None = None,
    ) -> None:
        """Serve at once; until a replica is there, requests wait for one. The workers only belong to the whole."""
        self._settings = load_settings(environ)
        configure(self._settings)
        self._replicas = RayReplicas(replicas)
        self._versions: Versions | None = None
        self._following = asyncio.create_task(self._follow(replicas))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray once, for the application that its proxies send requests to."""
        return create_ingress(self._settings, self._replicas, self._version_of)

    def _version_of(self, request: Request) -> str:
        return "" if self._versions is None else self._versions.engine_name(request)

    async def _follow(self, replicas: DeploymentHandle) -> None:
        """Learn from the first replica what is served, then follow the database."""
        while self._versions is None:
            try:
                facts: dict[str, Any] = await replicas.facts.remote()
                self._versions = await asyncio.to_thread(Versions, self._settings, **facts)
            except Exception:
                logger.exception("the names of models could not be read; trying again in %g s", FACTS_SECONDS)
                await asyncio.sleep(FACTS_SECONDS)
        await self._versions.follow()


class RayReplicas:
    """All replicas, by their deployment's handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def answer(self, request: Request, version: str) -> AsyncGenerator[Start | bytes, None]:
        """See `forwarding.Replicas`."""
        options = self._handle.options(method_name="answer", stream=True, multiplexed_model_id=version)
        response = options.remote(request, version)
        ended = False
        try:
            async for part in response:
                yield part
            ended = True
        except LOST as error:
            raise ReplicaLost(str(error)) from error
        except BackPressureError as error:
            raise ReplicasFull(str(error)) from error
        except TaskCancelledError:  # by our own cancel, below
            return
        finally:
            if not ended:
                response.cancel()  # the client has gone: the generation stops

    def keep(self, part: bytes) -> Any:
        """See `forwarding.Replicas`; in this process's object store, until the request has been answered."""
        return ray.put(part)

    async def metrics(self, request: Request) -> tuple[Start, bytes]:
        """See `forwarding.Replicas`."""
        answers = await asyncio.to_thread(self._handle.broadcast("metrics", request).results, timeout_s=10)
        refused = [(start, body) for _, start, body in answers if start.status != 200]
        if refused or not answers:
            return refused[0] if refused else (Start(status=503, headers=()), b"")
        return answers[0][1], merged({name: body.decode() for name, _, body in answers}).encode()
