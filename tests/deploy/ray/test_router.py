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
    for request in (pending(""), None):
        ((*group,),) = await router.choose_replicas([a, b], request)
        assert sorted(one.replica_id for one in group) == ["a", "b"]
    assert await router.choose_replicas([], pending("legal@1")) == [[]]


@pytest.mark.parametrize("version", ["", "legal@1"])
async def test_who_is_as_good_as_another_is_not_always_the_first(router: Any, version: str):
    """Ray takes the first of those that are equally busy: one client alone would never meet the second replica."""
    both = [replica("a", "legal@1"), replica("b", "legal@1")]
    firsts = {(await router.choose_replicas(both, pending(version)))[0][0].replica_id for _ in range(64)}
    assert firsts == {"a", "b"}


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


def test_only_what_a_process_is_started_with_restarts_it():
    from deploy.ray.application import build
    from deploy.ray.scale import Scale
    from server.settings import Settings

    def words(scale: Scale, **environ: str) -> dict[str, str]:
        """The version of each deployment by its name; Ray restarts the processes of those that have another one."""
        found = {}
        waiting = [build(Settings(), environ, scale, address="http://127.0.0.1:8000")]
        for application in waiting:
            deployment = application._bound_deployment
            found[deployment.name] = deployment.version
            told = (*deployment.init_args, *deployment.init_kwargs.values())
            waiting += [one for one in told if hasattr(one, "_bound_deployment")]
        return found

    before = words(Scale())
    assert set(before) == {"Ingress", "Replica", "Workers"}
    assert words(Scale(replicas=3, ingresses=2, cpus_per_replica=1)) == before
    changed = words(Scale(), MANYHATS_MAX_ADAPTERS="6")
    assert not set(changed.values()) & set(before.values())
    bound = words(Scale(bind_cores=["0", "1"]))
    assert {name for name in bound if bound[name] != before[name]} == {"Replica"}
    spilling = words(Scale(spill_at=5))
    assert {name for name in spilling if spilling[name] != before[name]} == {"Ingress"}
