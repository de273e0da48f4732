from __future__ import annotations

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from server.routes import health
from server.training_metrics import TrainingMetrics


def test_a_status_without_jobs_is_nought() -> None:
    registry = CollectorRegistry()
    metrics = TrainingMetrics(registry)
    metrics.show({"running": 2, "failed": 1})
    metrics.show({"failed": 3})
    text = generate_latest(registry).decode()
    assert 'manyhats_fine_tuning_jobs{status="failed"} 3.0' in text
    assert 'manyhats_fine_tuning_jobs{status="running"} 0.0' in text


async def test_they_are_counted_for_each_scrape(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FIGURES_SECONDS", 60.0)  # a busy machine is another test's
    assert 'manyhats_fine_tuning_jobs{status="queued"} 0.0' in (await http.get("/metrics")).text
