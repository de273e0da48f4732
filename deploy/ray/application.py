"""The three deployments of the Serve application, bound to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.schema import LoggingConfig

from deploy.ray.ingress import Ingress
from deploy.ray.replica import Replica
from deploy.ray.scale import Scale
from deploy.ray.stamp import stamp
from deploy.ray.workers import Workers
from server.settings import Settings

ROUTER = "deploy.ray.router:ResidencyRouter"
STOP_MARGIN_SECONDS = 30.0  # after draining, for background answers to end and the engine to let go of its memory
HEALTH_SECONDS = 2.0  # between two health checks; three failures in a row replace a replica
HEALTH_TIMEOUT_SECONDS = 10.0

QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)  # the application logs its own line per request


def build(
    settings: Settings,
    environ: Mapping[str, str],
    scale: Scale,
    *,
    address: str,
    replica: type[Replica] = Replica,
    router: str = ROUTER,
) -> serve.Application:
    """The application for `serve.run`; `environ` holds the MANYHATS_ settings that each process reads."""
    if scale.autoscaling is None:
        number: dict[str, Any] = {"num_replicas": scale.replicas}
    else:
        number = {"autoscaling_config": {**scale.autoscaling.model_dump(), "metrics_interval_s": 2}}
    kwargs = {"spill_at": scale.spill_at} if router == ROUTER else {}
    replicas = serve.deployment(
        replica,
        name="Replica",
        **number,
        ray_actor_options={"num_cpus": scale.cpus_per_replica, "num_gpus": scale.gpus_per_replica},
        max_ongoing_requests=scale.max_ongoing_requests,
        max_queued_requests=scale.max_queued_requests,
        request_router_config=RequestRouterConfig(
            request_router_class=router,
            request_router_kwargs=kwargs,
            request_routing_stats_period_s=scale.residency_seconds,
            request_routing_stats_timeout_s=5,
        ),
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_TIMEOUT_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.drain_seconds + STOP_MARGIN_SECONDS,
        max_surge_percent=100 if scale.surge else 0,
        logging_config=QUIET,
    )
    started_with = (scale.bind_cores, scale.cpus_per_replica, scale.vllm_args)
    replicas = _restarted(replicas, stamp(environ, *started_with)).bind(dict(environ), *started_with)
    ingress = serve.deployment(
        Ingress,
        name="Ingress",
        num_replicas=scale.ingresses,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=10_000,
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_TIMEOUT_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.drain_seconds + STOP_MARGIN_SECONDS,
        max_surge_percent=100,  # costs nothing here, and there is no moment without an ingress
        logging_config=QUIET,
    )
    # a router keeps what it was made with
    ingress = _restarted(ingress, stamp(environ, router, kwargs, scale.max_queued_requests, scale.workers))
    if not scale.workers:
        return ingress.bind(replicas, dict(environ))
    workers = serve.deployment(
        Workers,
        name="Workers",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_TIMEOUT_SECONDS,
        graceful_shutdown_timeout_s=STOP_MARGIN_SECONDS,
        logging_config=QUIET,
    )
    workers = _restarted(workers, stamp(environ, address)).bind(dict(environ), address)
    return ingress.bind(replicas, dict(environ), workers)


def _restarted(deployment: serve.Deployment, when_other: str) -> serve.Deployment:
    """Its processes are restarted when this word is another one; Ray by itself restarts them whenever it deploys."""
    return deployment.options(version=when_other, _internal=True)
