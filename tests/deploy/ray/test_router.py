from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed: `make serve-ray` installs it"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own code raises them where it is imported
]


@pytest.fixture
def router() -> Any:
    from ray.serve._private.request_router.common import ReplicaQueueLengthCache

    from deploy.ray.router import ResidencyRouter

    made = ResidencyRouter.__new__(ResidencyRouter)  # its constructor wants a running cluster
    made._replica_queue_len_cache = ReplicaQueueLengthCache()
    made.initialize_state(spill_at=2)
    return made


def replica(name: str, *resident: str) -> Any:
    return SimpleNamespace(replica_id=name, routing_stats={"resident": list(resident)} if resident else {})


def pending(version: str) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(multiplexed_model_id=version))


async def test_the_resident_replica_is_the_best_group(router: Any):
    a, b = replica("a"), replica("b", "legal@1")
    assert (await router.choose_replicas([a, b], pending("legal@1")))[0] == [b]


async def test_a_busy_one_spills(router: Any):
    a, b = replica("a"), replica("b", "legal@1")
    router._replica_queue_len_cache.update("b", 2)
    assert (await router.choose_replicas([a, b], pending("legal@1")))[0] == [a]


async def test_without_version_or_replica_all_are_alike(router: Any):
    a, b = replica("a"), replica("b", "legal@1")
    assert await router.choose_replicas([a, b], pending("")) == [[a, b]]
    assert await router.choose_replicas([a, b], None) == [[a, b]]
    assert await router.choose_replicas([], pending("legal@1")) == [[]]


async def test_a_cold_version_goes_on_to_where_it_was_sent(router: Any):
    a, b = replica("a"), replica("b")
    ((first,), *_) = await router.choose_replicas([a, b], pending("legal@1"))
    other = b if first is a else a
    router.on_request_routed(pending("legal@1"), other.replica_id, None)
    assert (await router.choose_replicas([a, b], pending("legal@1")))[0] == [other]


def test_ray_has_what_the_router_relies_on():
    from ray.serve.request_router import RequestRouter, RunningReplica

    for name in ("replica_id", "routing_stats"):
        assert hasattr(RunningReplica, name)
    for name in ("choose_replicas", "initialize_state", "on_request_routed", "replica_queue_len_cache"):
        assert hasattr(RequestRouter, name)


def test_every_option_of_the_deployments_is_known_to_ray():
    from deploy.ray.application import build
    from deploy.ray.scale import Autoscaling, Scale
    from server.settings import Settings

    for scale in (Scale(), Scale(autoscaling=Autoscaling(), surge=True, workers=False)):
        application = build(Settings(), {}, scale, address="http://127.0.0.1:8000")
        assert application._bound_deployment.name == "Ingress"
