"""What Prometheus sees of retrieval: a search's stages, how much waits to be read, how large the indexes are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from retrieval.figures import count_store_files, count_stores
from retrieval.ports import Store
from retrieval.queue import Pending, Queue
from retrieval.vector_store import FileCounts

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Stage = Literal["stores", "embed", "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is read anew for each scrape."""

    pending: Pending
    files: FileCounts
    n_stores: int
    index_bytes: int


def read_figures(database: Store, index_folder: Path) -> Figures:
    """A few counts from the database, and the sizes of the index files."""
    return Figures(
        pending=Queue(database).pending(),
        files=count_store_files(database),
        n_stores=count_stores(database),
        index_bytes=_size(index_folder),
    )


class RetrievalMetrics:
    """Series of one process, in the registry that it is given; no label is ever a client's word."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds = Histogram(
            "manyhats_retrieval_seconds",
            "Time of a search's stages: `stores` (what may be searched), `embed` (the question), `search`.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "manyhats_retrieval_failures", "Searches that broke off, by stage.", ["stage"], registry=registry
        )
        self._queue = Gauge(
            "manyhats_ingestion_queue",
            "Files that wait to be read, are being read, or are tried again later.",
            ["state"],
            registry=registry,
        )
        self._oldest = Gauge(
            "manyhats_ingestion_oldest_seconds", "Since the file that waits longest was attached.", registry=registry
        )
        self._files = Gauge("manyhats_store_files", "Files in vector stores.", ["status"], registry=registry)
        self._stores = Gauge("manyhats_vector_stores", "Vector stores.", registry=registry)
        self._index_bytes = Gauge("manyhats_index_bytes", "Index files on the disk.", registry=registry)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Measure it, also when it fails."""
        began = self._clock()
        try:
            yield
        except Exception:
            self._failures.labels(stage).inc()
            raise
        finally:
            self._seconds.labels(stage).observe(self._clock() - began)

    def show(self, figures: Figures) -> None:
        """Take over what was read."""
        for state in ("waiting", "working", "later"):
            self._queue.labels(state).set(getattr(figures.pending, state))
        self._oldest.set(figures.pending.oldest_seconds)
        for status in ("in_progress", "completed", "cancelled", "failed"):
            self._files.labels(status).set(getattr(figures.files, status))
        self._stores.set(figures.n_stores)
        self._index_bytes.set(figures.index_bytes)


def _size(folder: Path) -> int:
    total = 0
    for parent, _folders, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except FileNotFoundError:  # replaced meanwhile
                continue
    return total
