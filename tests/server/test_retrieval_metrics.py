"""Retrieval's series: stages that fail are counted too, and what is read for a scrape is what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from retrieval.queue import Pending
from retrieval.vector_store import FileCounts
from server.retrieval_metrics import Figures, RetrievalMetrics, read_figures
from server.services import Services


def test_a_stage_is_measured_also_when_it_fails() -> None:
    registry = CollectorRegistry()
    times = iter([0.0, 0.004, 1.0, 3.0])
    metrics = RetrievalMetrics(registry, lambda: next(times))
    with metrics.stage("embed"):
        pass
    with pytest.raises(OSError, match="no"), metrics.stage("embed"):
        raise OSError("no")
    text = generate_latest(registry).decode()
    assert 'manyhats_retrieval_seconds_bucket{le="0.005",stage="embed"} 1.0' in text
    assert 'manyhats_retrieval_seconds_sum{stage="embed"} 2.004' in text
    assert 'manyhats_retrieval_failures_total{stage="embed"} 1.0' in text


def test_figures_are_shown() -> None:
    registry = CollectorRegistry()
    RetrievalMetrics(registry).show(
        Figures(
            pending=Pending(waiting=3, working=1, later=2, oldest_seconds=7.5),
            files=FileCounts(in_progress=6, completed=5, cancelled=4, failed=9),
            n_stores=8,
            index_bytes=1000,
        )
    )
    told = dict(line.rsplit(" ", 1) for line in generate_latest(registry).decode().splitlines() if line[0] != "#")
    assert told['manyhats_ingestion_queue{state="later"}'] == "2.0"
    assert told['manyhats_store_files{status="failed"}'] == "9.0"
    assert told["manyhats_ingestion_oldest_seconds"] == "7.5"
    assert (told["manyhats_vector_stores"], told["manyhats_index_bytes"]) == ("8.0", "1000.0")


def test_figures_are_what_is_there(services: Services, tmp_path: Path) -> None:
    store = services.stores.create("local")
    for content in (b"a", b"b"):
        with services.files.staging() as folder:
            (folder / "content").write_bytes(content)
            file = services.files.add(folder, filename="a.txt", purpose="assistants", owner="local")
        services.attachments.attach(store.id, file.id)
    (tmp_path / "indexes" / "vs_1").mkdir(parents=True)
    (tmp_path / "indexes" / "vs_1" / "dense").write_bytes(b"x" * 70)
    (tmp_path / "indexes" / "gone").symlink_to(tmp_path / "nowhere")
    figures = read_figures(services.database, tmp_path / "indexes")
    assert (figures.pending.waiting, figures.files, figures.n_stores) == (2, FileCounts(in_progress=2), 1)
    assert figures.index_bytes >= 70
    assert read_figures(services.database, tmp_path / "none").index_bytes == 0
