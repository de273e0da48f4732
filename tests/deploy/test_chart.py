"""What the chart makes is what Kubernetes takes, fits the image, and gives the server the time that it needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from server.metrics import Metrics
from server.serve import STOP_MARGIN_SECONDS
from server.settings import Settings, load_settings, setting_names
from server.supervisor import Patience
from tests.deploy.dockerfile import stages
from tests.deploy.tools import ROOT, run, tool

CHART = ROOT / "deploy" / "kubernetes" / "manyhats"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
OLDEST, NEWEST = "1.27", "1.34"
KEYS = "--set=apiKeys.existingSecret=keys"
SHARED = ("--set=database.existingSecret=database", "--set=settings.MANYHATS_BLOB_URL=s3://bucket")
REPLICAS, AUTOSCALING = "--set=replicas=2", "--set=autoscaling.enabled=true"
EVERYTHING = (
    KEYS,
    "--set=database.existingSecret=database,gpu.enabled=true,gpu.runtimeClassName=nvidia,image.repository=r.example/m",
    "--set=settings.MANYHATS_MODEL=Qwen/Qwen3-0.6B,settings.MANYHATS_TRAINING=false",
    "--set=ingress.enabled=true,ingress.host=chat.example,ingress.tlsSecret=tls,ingress.className=nginx",
    "--set=monitoring.serviceMonitor=true,monitoring.rules=true,monitoring.dashboard=true",
    "--set=monitoring.existingSecret=metrics,monitoring.labels.release=prometheus",
    "--set=serviceAccountName=m,priorityClassName=high,persistence.storageClass=fast",
    "--set-string=settings.MANYHATS_MAX_ADAPTERS=16",
    '--set-json=networkPolicy.egress=[{"ports": [{"port": 443}]}]',
    '--set-json=networkPolicy.from=[{"namespaceSelector": {}}]',
    '--set-json=envFrom=[{"secretRef": {"name": "hub"}}]',
    '--set-json=tolerations=[{"key": "gpu", "operator": "Exists"}]',
    '--set-json=nodeSelector={"gpu": "true"}',
    '--set-json=podAnnotations={"team": "a"}',
    '--set-json=podLabels={"team": "a"}',
    '--set-json=imagePullSecrets=[{"name": "pull"}]',
    '--set-json=assistants="- name: clínica\\n  model: demo\\n"',
)


def render(*values: str, name: str = "r") -> dict[str, dict[str, Any]]:
    """The objects that the chart makes, by kind and name."""
    text = run(tool("helm"), "template", name, CHART, *values)
    found = [one for one in yaml.safe_load_all(re.sub(r"(?m)^walk\.go.*\n", "", text)) if one]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


def pod(*values: str) -> dict[str, Any]:
    template: dict[str, Any] = render(KEYS, *values)["StatefulSet/r-manyhats"]["spec"]["template"]["spec"]
    return template


def container(*values: str) -> dict[str, Any]:
    (only,) = pod(*values)["containers"]
    return dict(only)


def variables(*values: str) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in container(*values)["env"]}


def seconds(probe: dict[str, Any]) -> int:
    """How long it may fail before something is done."""
    return int(probe["periodSeconds"] * probe["failureThreshold"])


def test_helm_lint() -> None:
    run(tool("helm"), "lint", "--strict", CHART, KEYS)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    "values", [(KEYS,), EVERYTHING, (KEYS, *SHARED, AUTOSCALING)], ids=["as it is", "everything", "autoscaling"]
)
def test_kubernetes_takes_it(values: tuple[str, ...], version: str, tmp_path: Path) -> None:
    foreign = ("ServiceMonitor", "PrometheusRule")  # Prometheus Operator's own
    objects = [one for one in render(*values).values() if one["kind"] not in foreign]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(objects))
    told = run(tool("kubernetes-validate"), "--strict", "-k", version, tmp_path / "all.yaml")
    assert told.count("passed for resource") == len(objects), told


def test_the_oldest_kubernetes_is_the_one_that_is_checked() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={OLDEST}.0-0"


def test_without_keys_it_says_what_to_do() -> None:
    assert "kubectl create secret" in run(tool("helm"), "template", "r", CHART, fails=True)


@pytest.mark.parametrize(
    "value",
    ["MANYHATS_MAX_ADAPTER=3", "MANYHATS_HOST=127.0.0.1", "MANYHATS_MAX_FILE_BYTES=5"],
    ids=["misspelt", "the chart's own", "a number that Helm would write its way"],
)
def test_a_wrong_setting_is_refused_before_a_pod_is(value: str) -> None:
    assert "settings" in run(tool("helm"), "template", "r", CHART, KEYS, f"--set=settings.{value}", fails=True)


def test_settings_are_the_servers_but_for_those_that_the_chart_sets() -> None:
    ours = {name for name in variables("--set-string=assistants=x", *SHARED, REPLICAS) if name.startswith("MANYHATS_")}
    ours.remove("MANYHATS_BLOB_URL")  # of SHARED
    allowed = SCHEMA["properties"]["settings"]["propertyNames"]["enum"]
    secret = {"MANYHATS_DATABASE_URL", "MANYHATS_VECTOR_TOKEN"}  # of a Secret: by `database` and `envFrom`
    assert allowed == sorted(set(setting_names()) - ours - secret)


def test_every_value_is_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {"global", *values} == SCHEMA["properties"].keys()


def test_a_service_called_manyhats_does_not_become_a_setting() -> None:
    """Kubernetes would put MANYHATS_PORT=tcp://… into the pod, and the server would not start."""
    assert "Service/manyhats" in render(KEYS, name="manyhats")
    assert pod()["enableServiceLinks"] is False


def test_one_server_is_alone_and_nothing_makes_more() -> None:
    objects = render(*EVERYTHING)
    assert objects["StatefulSet/r-manyhats"]["spec"]["replicas"] == 1
    assert not [name for name in objects if name.startswith("HorizontalPodAutoscaler")]
    assert "MANYHATS_REPLICA" not in variables(*SHARED)


@pytest.mark.parametrize("several", [REPLICAS, AUTOSCALING])
def test_several_servers_know_of_each_other_and_share_rows_and_bytes(several: str) -> None:
    given = variables(*SHARED, several)
    assert given["MANYHATS_REPLICA"] == "true"
    environ = {name: value for name, value in given.items() if name.startswith("MANYHATS_") and value is not None}
    assert load_settings({**environ, "MANYHATS_DATABASE_URL": "postgresql+psycopg://u@h/d"}).replica
    spec = render(KEYS, *SHARED, several)["StatefulSet/r-manyhats"]["spec"]
    assert spec["volumeClaimTemplates"][0]["metadata"]["name"] == "data", "each has a data directory of its own"


@pytest.mark.parametrize("several", [REPLICAS, AUTOSCALING])
@pytest.mark.parametrize("shared", range(2))
def test_several_servers_without_the_same_rows_or_bytes_are_refused(several: str, shared: int) -> None:
    told = run(tool("helm"), "template", "r", CHART, KEYS, SHARED[shared], several, fails=True)
    assert "is required for several servers" in told


def test_the_number_of_servers_is_the_autoscalers_where_there_is_one() -> None:
    objects = render(KEYS, *SHARED, AUTOSCALING)
    assert "replicas" not in objects["StatefulSet/r-manyhats"]["spec"]  # else each upgrade would set it back
    scaler = objects["HorizontalPodAutoscaler/r-manyhats"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "r-manyhats"}
    (metric,) = scaler["metrics"]
    shown = generate_latest(Metrics(Settings()).registry).decode()
    assert f"# TYPE {metric['pods']['metric']['name']} gauge" in shown


def test_a_start_of_the_api_process_kills_no_pod() -> None:
    assert seconds(container()["livenessProbe"]) > 2 * Patience().longest_pause
    assert seconds(container()["startupProbe"]) > 60


def test_liveness_asks_the_process_and_readiness_the_engine() -> None:
    asked = {name: container()[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert asked == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}


def test_the_pod_waits_until_the_server_has_stopped() -> None:
    assert pod()["terminationGracePeriodSeconds"] > Settings().drain_seconds + STOP_MARGIN_SECONDS


def test_it_fits_the_image() -> None:
    image = next(stage for stage in stages(ROOT / "deploy" / "docker" / "Dockerfile") if stage.name == "server")
    user, group = image.all("USER")[0].text.split(":")
    context = pod()["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))
    mounted = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert {*re.findall(r'"([^"]+)"', image.all("VOLUME")[0].text), "/tmp", "/dev/shm"} <= mounted
    assert container()["securityContext"]["readOnlyRootFilesystem"]
    assert variables()["MANYHATS_DATA_DIR"].startswith("/var/lib/manyhats/")


def test_every_volume_that_is_mounted_is_there() -> None:
    for values in ((), EVERYTHING):
        spec = render(KEYS, *values)["StatefulSet/r-manyhats"]["spec"]
        claims = [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]]
        there = {*claims, *(volume["name"] for volume in spec["template"]["spec"]["volumes"])}
        (only,) = spec["template"]["spec"]["containers"]
        assert {mount["name"] for mount in only["volumeMounts"]} == there


def test_a_gpu_is_asked_for_with_its_image() -> None:
    given = container("--set=gpu.enabled=true,gpu.count=2")
    assert given["image"].endswith("-cuda")
    assert given["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert given["resources"]["limits"]["memory"]
    assert "nvidia.com/gpu" not in container()["resources"]["limits"]


def test_a_digest_wins_over_the_tag() -> None:
    digest = f"sha256:{'a' * 64}"
    assert container(f"--set=image.digest={digest}")["image"] == f"manyhats@{digest}"


def test_secrets_are_named_and_never_written() -> None:
    objects = render(*EVERYTHING)
    assert not [name for name in objects if name.startswith("Secret/")]
    environment = objects["StatefulSet/r-manyhats"]["spec"]["template"]["spec"]["containers"][0]["env"]
    (url,) = [one for one in environment if one["name"] == "MANYHATS_DATABASE_URL"]
    assert url["valueFrom"] == {"secretKeyRef": {"name": "database", "key": "url"}}


def test_network_is_closed_but_for_names() -> None:
    policy = render(KEYS)["NetworkPolicy/r-manyhats"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [one["port"] for rule in policy["egress"] for one in rule["ports"]] == [53, 53]
    assert policy["ingress"][0]["from"] == [{"podSelector": {}}]


def test_alerts_and_dashboard_are_the_ones_of_deploy() -> None:
    objects = render(*EVERYTHING)
    alerts = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert objects["PrometheusRule/r-manyhats"]["spec"] == alerts
    text = (ROOT / "deploy" / "grafana" / "manyhats.json").read_text()
    assert objects["ConfigMap/r-manyhats-dashboard"]["data"]["manyhats.json"] == text
    monitor = objects["ServiceMonitor/r-manyhats"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert (
        monitor["spec"]["selector"]["matchLabels"].items()
        <= objects["Service/r-manyhats"]["metadata"]["labels"].items()
    )


def test_services_find_their_pod() -> None:
    objects = render(KEYS)
    labels = objects["StatefulSet/r-manyhats"]["spec"]["template"]["metadata"]["labels"]
    for name, spec in (("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        selector = objects[f"{name}/r-manyhats"]["spec"][spec]
        assert selector.get("matchLabels", selector).items() <= labels.items()
    ports = {port["name"] for port in container()["ports"]}
    assert objects["Service/r-manyhats"]["spec"]["ports"][0]["targetPort"] in ports


def test_patience_of_a_proxy_is_above_the_servers() -> None:
    annotations = yaml.safe_load((CHART / "values.yaml").read_text())["ingress"]["annotations"]
    for name in ("read", "send"):
        patience = annotations[f"nginx.ingress.kubernetes.io/proxy-{name}-timeout"]
        assert int(patience) > Settings().request_timeout_seconds
    largest = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(largest.removesuffix("m")) * 1024**2 == Settings().max_file_bytes


def test_the_server_reads_the_assistants_that_are_given() -> None:
    given = render(*EVERYTHING)["ConfigMap/r-manyhats-assistants"]["data"]["assistants.yaml"]
    assert yaml.safe_load(given) == [{"name": "clínica", "model": "demo"}]


def test_values_are_tidy() -> None:
    rules = "{extends: relaxed, rules: {line-length: {max: 200}}}"
    run(tool("yamllint"), "--strict", "-d", rules, CHART / "values.yaml", CHART / "Chart.yaml")
