"""The dashboard, as code: `python -m deploy.grafana.dashboard` writes manyhats.json beside this file.

What it shows is in `rows`; this is how Grafana wants to be told. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from deploy.grafana.rows import ROWS, Panel

OUT = Path(__file__).resolve().with_name("manyhats.json")
COLUMNS = 24  # Grafana's grid
PANEL_HEIGHT = 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """Grafana's JSON model."""
    return {
        "uid": "manyhats",
        "title": "Manyhats",
        "description": "Requests, speed, adapters, retrieval and ingestion of one base model with many hats.",
        "tags": ["manyhats", "vllm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # the cursor is shared by all charts
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def as_json() -> str:
    """What stands in manyhats.json."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    for name, query in (
        ("instance", "label_values(manyhats_build_info, instance)"),
        ("adapter", 'label_values(manyhats_requests_total{instance=~"$instance"}, adapter)'),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,  # whenever the time range changes: adapters come and go
            "includeAll": True,
            "allValue": ".*",  # also what is about no adapter, whose label is empty
            "multi": True,
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panels() -> Iterator[dict[str, Any]]:
    ids = count(1)
    y = 0
    for row in ROWS:
        yield {
            "id": next(ids),
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": _place(0, y, COLUMNS, 1),
        }
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + PANEL_HEIGHT
            yield _chart(panel, next(ids), _place(x, y, panel.width, PANEL_HEIGHT))
            x += panel.width
        y += PANEL_HEIGHT


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def _chart(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    drawn: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 25 if panel.stacked else 5, "showPoints": "never"}
    if panel.stacked:
        drawn["stacking"] = {"mode": "normal"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "gridPos": place,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": drawn}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for n, (legend, expression) in enumerate(panel.series)
        ],
    }


if __name__ == "__main__":
    OUT.write_text(as_json(), encoding="utf-8")
