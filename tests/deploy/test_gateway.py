"""Behind a Gateway with the Inference Extension: the chart's route, pool and picker fit each other and the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import APIRouter
from fastapi.routing import APIRoute

from server.app import ROUTERS
from server.routes import health
from server.settings import Settings
from tests.deploy.test_chart import CHART, KEYS, NEWEST, OLDEST, render
from tests.deploy.tools import ROOT, run, tool

GATEWAY = (
    KEYS,
    "--set=gateway.enabled=true",
    '--set-json=gateway.parentRefs=[{"name": "inference", "namespace": "gateways"}]',
)
ELSEWHERE = '--set-json=networkPolicy.from=[{"namespaceSelector": {"matchLabels": {"gateways": "true"}}}]'
FOREIGN = ("HTTPRoute", "InferencePool")  # kinds that are not Kubernetes' own


def picked() -> dict[str, Any]:
    """What the picker is told, as it reads it."""
    read: dict[str, Any] = yaml.safe_load(render(*GATEWAY)["ConfigMap/r-manyhats-picker"]["data"]["picker.yaml"])
    return read


def matches(rule: dict[str, Any]) -> set[tuple[str | None, str, str]]:
    return {(one.get("method"), one["path"]["type"], one["path"]["value"]) for one in rule["matches"]}


def is_matched(path: str, rule: dict[str, Any]) -> bool:
    return any(
        path == value or (kind == "PathPrefix" and path.startswith(f"{value}/")) for _, kind, value in matches(rule)
    )


def paths_of(*routers: APIRouter) -> set[str]:
    return {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}


def test_without_being_asked_for_there_is_none_of_it() -> None:
    assert not [name for name in render(KEYS) if name.startswith(FOREIGN) or "picker" in name]
    assert "MANYHATS_METRICS_OPEN" not in str(render(KEYS))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("further", [(), (ELSEWHERE, "--set=gateway.selector.pool=a")], ids=["as it is", "further"])
def test_kubernetes_takes_it(further: tuple[str, ...], version: str, tmp_path: Path) -> None:
    objects = [one for one in render(*GATEWAY, *further).values() if one["kind"] not in FOREIGN]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    told = run(tool("kubernetes-validate"), "--strict", "-k", version, tmp_path / "all.yaml")
    assert told.count("passed for resource") == len(objects), told


@pytest.mark.parametrize("kind", FOREIGN)
def test_the_gateway_takes_it(kind: str, tmp_path: Path) -> None:
    hosts = '--set-json=gateway.hostnames=["chat.example"]'
    made = render(*GATEWAY, hosts)[f"{kind}/r-manyhats"]
    schema = ROOT / "tests" / "deploy" / "gateway_api.json"
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(made))
    run(tool("check-jsonschema"), "--schemafile", schema, tmp_path / "good.yaml")
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**made, "spec": {**made["spec"], "misspelt": 1}}))
    run(tool("check-jsonschema"), "--schemafile", schema, tmp_path / "bad.yaml", fails=True)


@pytest.mark.parametrize(
    ("further", "told"),
    [
        (("--set-json=gateway.parentRefs=[]",), "parentRefs"),
        (("--set=ingress.enabled=true,ingress.host=chat.example",), "exclude each other"),
        (("--set=settings.MANYHATS_METRICS_OPEN=false",), "METRICS_OPEN"),
        (("--set=gateway.requestTimeout=forever",), "requestTimeout"),
    ],
    ids=["no gateway", "an ingress beside it", "a page that the picker cannot read", "no length of time"],
)
def test_what_cannot_work_is_refused(further: tuple[str, ...], told: str) -> None:
    assert told in run(tool("helm"), "template", "r", CHART, *GATEWAY, *further, fails=True)


def test_what_adapters_answer_goes_by_the_picker_and_all_else_past_it() -> None:
    route = render(*GATEWAY)["HTTPRoute/r-manyhats"]["spec"]
    by_picker, past = route["rules"]
    answered = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
    assert matches(by_picker) == {("POST", "Exact", path) for path in answered}
    assert by_picker["backendRefs"][0]["kind"] == "InferencePool"
    assert "kind" not in past["backendRefs"][0]
    assert {path for path in paths_of(*ROUTERS) if not is_matched(path, past)} == {"/metrics", "/metrics/routing"}


def test_what_the_picker_reads_without_a_key_is_shown_to_nobody_else() -> None:
    objects = render(*GATEWAY)
    environment = objects["StatefulSet/r-manyhats"]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "MANYHATS_METRICS_OPEN", "value": "true"} in environment
    for rule in objects["HTTPRoute/r-manyhats"]["spec"]["rules"]:
        assert not is_matched("/metrics", rule)
        assert not is_matched("/metrics/routing", rule)
    given = render(*GATEWAY, "--set=settings.MANYHATS_METRICS_OPEN=true")
    names = [one["name"] for one in given["StatefulSet/r-manyhats"]["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert names.count("MANYHATS_METRICS_OPEN") == 1


def test_pool_picker_and_pods_find_each_other() -> None:
    objects = render(*GATEWAY)
    pool = objects["InferencePool/r-manyhats"]["spec"]
    server = objects["StatefulSet/r-manyhats"]["spec"]["template"]
    assert pool["selector"]["matchLabels"].items() <= server["metadata"]["labels"].items()
    assert pool["targetPorts"] == [{"number": server["spec"]["containers"][0]["ports"][0]["containerPort"]}]
    service = objects[f"Service/{pool['endpointPickerRef']['name']}"]["spec"]
    assert [port["port"] for port in service["ports"]] == [pool["endpointPickerRef"]["port"]["number"]]
    picker = objects["Deployment/r-manyhats-picker"]["spec"]["template"]
    assert service["selector"].items() <= picker["metadata"]["labels"].items()
    (container,) = picker["spec"]["containers"]
    assert {"name": service["ports"][0]["targetPort"], "containerPort": 9002} in container["ports"]
    assert "--pool-name=r-manyhats" in container["args"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "config"]
    assert f"--config-file={mount['mountPath']}/picker.yaml" in container["args"]


def test_nothing_of_the_servers_takes_the_picker_for_one() -> None:
    objects = render(*GATEWAY, "--set=monitoring.serviceMonitor=true,monitoring.existingSecret=m")
    picker = objects["Deployment/r-manyhats-picker"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["Service/r-manyhats"]["spec"]["selector"],
        objects["PodDisruptionBudget/r-manyhats"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy/r-manyhats"]["spec"]["podSelector"]["matchLabels"],
        objects["InferencePool/r-manyhats"]["spec"]["selector"]["matchLabels"],
    ]
    assert not [selector for selector in selectors if selector.items() <= picker.items()]
    monitored = objects["ServiceMonitor/r-manyhats"]["spec"]["selector"]["matchLabels"]
    assert not monitored.items() <= objects["Service/r-manyhats-picker"]["metadata"]["labels"].items()


def test_the_pool_may_span_releases() -> None:
    objects = render(*GATEWAY, "--set=gateway.selector.pool=a,podLabels.pool=a")
    assert objects["InferencePool/r-manyhats"]["spec"]["selector"]["matchLabels"] == {"pool": "a"}
    (_, _, pods) = objects["NetworkPolicy/r-manyhats-picker"]["spec"]["egress"]
    assert pods["to"] == [{"podSelector": {"matchLabels": {"pool": "a"}}}]


def test_the_picker_reaches_the_server_wherever_the_gateway_is() -> None:
    objects = render(*GATEWAY, ELSEWHERE)
    labels = objects["Deployment/r-manyhats-picker"]["spec"]["template"]["metadata"]["labels"]
    peers = [peer for rule in objects["NetworkPolicy/r-manyhats"]["spec"]["ingress"] for peer in rule["from"]]
    allowed = [peer["podSelector"]["matchLabels"] for peer in peers if "podSelector" in peer]
    assert [one for one in allowed if one.items() <= labels.items()]
    (who,) = objects["NetworkPolicy/r-manyhats-picker"]["spec"]["ingress"]
    assert who["from"] == [{"namespaceSelector": {"matchLabels": {"gateways": "true"}}}]


def test_the_picker_may_do_nothing_but_look() -> None:
    objects = render(*GATEWAY)
    assert {verb for rule in objects["Role/r-manyhats-picker"]["rules"] for verb in rule["verbs"]} == {
        "get",
        "list",
        "watch",
    }
    assert not [name for name in objects if name.startswith("ClusterRole")]
    spec = objects["Deployment/r-manyhats-picker"]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_picker_reads_the_page_that_is_made_for_it() -> None:
    (source,) = [plugin for plugin in picked()["plugins"] if plugin["type"] == "metrics-data-source"]
    assert source["parameters"]["path"] in paths_of(health.router)
    assert source["parameters"]["path"] != "/metrics"


def test_an_adapter_in_memory_outweighs_all_but_a_line() -> None:
    (profile,) = picked()["schedulingProfiles"]
    weights = {one["pluginRef"]: one["weight"] for one in profile["plugins"]}
    assert weights.keys() <= {plugin["type"] for plugin in picked()["plugins"]}
    affinity, load = weights.pop("lora-affinity-scorer"), weights.pop("load-aware-scorer")
    there_over_room = affinity * (1.0 - 0.8)
    assert sum(weights.values()) < there_over_room
    (line,) = [plugin for plugin in picked()["plugins"] if plugin["type"] == "load-aware-scorer"]
    per_waiting = load * 0.5 / line["parameters"]["threshold"]
    assert there_over_room / per_waiting == pytest.approx(8)


def test_the_gateway_s_patience_is_above_the_server_s() -> None:
    for rule in render(*GATEWAY)["HTTPRoute/r-manyhats"]["spec"]["rules"]:
        assert int(rule["timeouts"]["request"].removesuffix("s")) > Settings().request_timeout_seconds
