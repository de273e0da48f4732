"""What the dashboard and the alerts ask for is what a server shows, and both do what they say."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import dashboard
from server.metrics import Metrics
from server.settings import Settings, setting_names
from tests.deploy.tools import ROOT, run, tool

PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads(dashboard.OUT.read_text())
CHARTS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
METRIC = re.compile(r"\b(?:manyhats_|vllm:)\w+")
OF_HISTOGRAMS = ("_bucket", "_count", "_sum")


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, PromQL) of everything that is asked of Prometheus."""
    for chart in CHARTS:
        for target in chart["targets"]:
            yield chart["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


def shown_by_us() -> dict[str, set[str]]:
    """Every series' name in a scrape, with the labels that it may have."""
    metrics = Metrics(Settings(model_name="demo"))
    found: dict[str, set[str]] = {}
    for collector in {*metrics.registry._collector_to_names}:  # the text has no labels of a series without samples
        for name in metrics.registry._collector_to_names[collector]:
            found[name] = set(getattr(collector, "_labelnames", ()))
    scraped = metrics.render(b"", str).decode()
    assert {line.split()[2] for line in scraped.splitlines() if line.startswith("# TYPE")} <= found.keys()
    return found


def shown_by_vllm() -> set[str]:
    """The names that vLLM gives, read from its source: importing it takes seconds."""
    package = importlib.util.find_spec("vllm")
    if package is None or not package.submodule_search_locations:
        pytest.skip("vLLM is not installed")
    source = Path(next(iter(package.submodule_search_locations)), "v1", "metrics", "loggers.py").read_text()
    kinds = re.findall(r'(gauge|counter|histogram)_cls\(\s*name="(vllm:\w+)"', source)
    assert kinds
    found = {name for kind, name in kinds if kind == "gauge"}
    found |= {f"{name}_total" for kind, name in kinds if kind == "counter"}
    return found | {f"{name}{end}" for kind, name in kinds if kind == "histogram" for end in OF_HISTOGRAMS}


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_what_is_asked_for_is_shown(where: str, expression: str) -> None:
    names = set(METRIC.findall(expression))
    assert names or expression.startswith("up{"), where
    ours = {name for name in names if name.startswith("manyhats_")}
    assert ours <= shown_by_us().keys()
    assert names - ours <= (shown_by_vllm() if names - ours else set())


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_labels_are_those_of_the_series(where: str, expression: str) -> None:
    shown = shown_by_us()
    grouped = {label for one in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", one)}
    for name, selector in re.findall(r"\b(manyhats_\w+)(?:\{([^}]*)\})?", expression):
        selected = set(re.findall(r"(\w+)=", selector))
        assert selected <= shown[name] | {"instance"}, f"{where}: {name}"
        if "vllm:" not in expression:
            assert grouped <= shown[name] | {"instance", "le"}, f"{where}: {name}"


def test_every_series_of_ours_is_on_the_dashboard() -> None:
    asked = {name for _, expression in expressions() for name in METRIC.findall(expression)}
    families = {re.sub("_(bucket|count|sum|total|created)$", "", name) for name in shown_by_us()}
    assert families == {re.sub("_(bucket|count|sum|total)$", "", name) for name in asked if name.startswith("many")}


def test_the_file_is_what_the_code_makes() -> None:
    assert dashboard.OUT.read_text() == dashboard.as_json(), "run `python -m deploy.grafana.dashboard`"


def test_charts_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < dashboard.COLUMNS
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_chart_says_what_it_means() -> None:
    assert all(chart["description"].endswith(".") for chart in CHARTS)


def test_promtool_accepts_rules_and_configuration() -> None:
    promtool = tool("promtool")
    run(promtool, "check", "rules", PROMETHEUS / "alerts.yml")
    run(promtool, "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


def test_alerts_fire_when_they_should_and_keep_still_when_not() -> None:
    run(tool("promtool"), "test", "rules", ROOT / "tests" / "deploy" / "alerts_test.yml")


def test_every_alert_is_played_in_both_ways() -> None:
    played = yaml.safe_load((ROOT / "tests" / "deploy" / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in played for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in ALERTS}
    assert names == {case["alertname"] for case in cases if "exp_alerts" in case}
    assert names == {case["alertname"] for case in cases if "exp_alerts" not in case}


def test_alerts_name_settings_that_there_are() -> None:
    named = re.findall(r"MANYHATS_[A-Z_]+", json.dumps(ALERTS))
    assert named
    assert set(named) <= set(setting_names())


def test_grafana_finds_its_file_and_its_data() -> None:
    read: Any = yaml.safe_load
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = read((folder / "dashboards" / "manyhats.yaml").read_text())["providers"]
    compose = read((ROOT / "deploy" / "docker" / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[1] for volume in compose["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/{dashboard.OUT.name}" in mounted
    (source,) = read((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (job,) = read((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["manyhats:8000"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{compose['prometheus']['secrets'][0]}"
