"""What Prometheus sees: our series per adapter, then the engine's own with public names.

Cardinality is capped: so many adapters have series of their own, all further ones share "other", and a name that a
client made up never becomes a label.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.retrieval_metrics import RetrievalMetrics
from server.settings import Settings
from server.training_metrics import TrainingMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
N_ERROR_TYPES = 100
FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PER_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
LOAD_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

ENGINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,95}@[0-9a-f]{64}")
LORA_INFO = b"vllm:lora_requests_info{"


@dataclass(slots=True)
class RequestMeter:
    """The clock and the counters of one generation."""

    metrics: Metrics
    adapter: str
    started_at: float
    first_at: float | None = None
    n_frames: int = 0  # of its stream, so far

    def first_token(self) -> None:
        """The first frame of a stream is there. Not for whole answers, whose first token nobody saw."""
        self.first_at = self.metrics.clock()
        self.metrics.first_token_seconds.labels(self.adapter).observe(self.first_at - self.started_at)

    def tokens(self, prompt: int, completion: int) -> None:
        """The answer has ended with so many tokens; its mean time per token counts from the first one."""
        self.metrics.tokens.labels(self.adapter, "prompt").inc(prompt)
        self.metrics.tokens.labels(self.adapter, "completion").inc(completion)
        if self.first_at is not None and completion > 1:
            seconds = (self.metrics.clock() - self.first_at) / (completion - 1)
            self.metrics.per_token_seconds.labels(self.adapter).observe(seconds)

    def failed(self, kind: str) -> None:
        """It failed after the status line had gone out; earlier failures are counted with the request."""
        self.metrics.errors.labels(self.adapter, self.metrics.error_label(kind)).inc()


class Metrics:
    """Counters of one process, in a registry of their own."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.registry = registry = CollectorRegistry()
        self.retrieval = RetrievalMetrics(registry, clock)
        self.training = TrainingMetrics(registry)
        self._base_name = settings.base_name
        self._max_adapters = settings.metrics_max_adapters
        self._adapters: set[str] = set()
        self._error_types: set[str] = set()
        self._resident: set[str] = set()
        self.requests = Counter(
            "manyhats_requests", "Requests by final status.", ["adapter", "endpoint", "status"], registry=registry
        )
        self.errors = Counter(
            "manyhats_errors", "Requests that failed, by kind of error.", ["adapter", "type"], registry=registry
        )
        self.tokens = Counter("manyhats_tokens", "Tokens of ended answers.", ["adapter", "kind"], registry=registry)
        self.first_token_seconds = Histogram(
            "manyhats_time_to_first_token_seconds",
            "From the request's start to its first streamed token, waiting included.",
            ["adapter"],
            buckets=FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self.per_token_seconds = Histogram(
            "manyhats_time_per_output_token_seconds",
            "Mean time between the tokens of one streamed answer.",
            ["adapter"],
            buckets=PER_TOKEN_SECONDS,
            registry=registry,
        )
        self.load_seconds = Histogram(
            "manyhats_adapter_load_seconds",
            "Time to put one adapter version into the engine.",
            ["adapter"],
            buckets=LOAD_SECONDS,
            registry=registry,
        )
        self.evictions = Counter(
            "manyhats_adapter_evictions",
            "Adapter versions that gave up their place in memory to another.",
            ["adapter"],
            registry=registry,
        )
        self.residents = Gauge(
            "manyhats_adapters_resident", "Adapter versions in the engine's slots.", registry=registry
        )
        self.resident = Gauge(
            "manyhats_adapter_resident", "Versions of this adapter in the slots.", ["adapter"], registry=registry
        )
        self.running = Gauge("manyhats_requests_running", "Generations under way or in line.", registry=registry)
        self.queue_depth = Gauge("manyhats_queue_depth", "Generations that wait in line.", registry=registry)
        self.build_info = Gauge(
            "manyhats_build_info", "Always 1; its labels tell what runs.", ["version", "base"], registry=registry
        )

    def describe(self, version: str) -> None:
        """Say once what runs."""
        self.build_info.labels(version, self._base_name).set(1)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Where the queue's depth is read at each scrape."""
        self.queue_depth.set_function(depth)

    @contextmanager
    def request(self, adapter: str) -> Iterator[RequestMeter]:
        """One generation, counted as running until the end; `adapter` is "" for the base model."""
        self.running.inc()
        try:
            yield RequestMeter(self, self.adapter_label(adapter), self.clock())
        finally:
            self.running.dec()

    def finished(self, adapter: str | None, endpoint: str, status: int, error: str | None = None) -> None:
        """One HTTP request has ended; `adapter` is None where it was about none, "" for the base model.

        `endpoint` is a route's template, never a raw URL; `error` the code or type that the client was told.
        """
        label = "" if adapter is None else self.adapter_label(adapter)
        self.requests.labels(label, endpoint, str(status)).inc()
        if error is not None:
            self.errors.labels(label, self.error_label(error)).inc()

    def loaded(self, adapter: str, seconds: float) -> None:
        """A version of this adapter was put into the engine in so many seconds."""
        self.load_seconds.labels(self.adapter_label(adapter)).observe(seconds)

    def evicted(self, adapter: str) -> None:
        """A version of this adapter gave up its place to another."""
        self.evictions.labels(self.adapter_label(adapter)).inc()

    def set_residents(self, adapters: Collection[str]) -> None:
        """The adapter of each version in the slots now; a name comes once per version."""
        counts: dict[str, int] = {}
        for adapter in adapters:
            label = self.adapter_label(adapter)
            counts[label] = counts.get(label, 0) + 1
        for label in self._resident - counts.keys():
            self.resident.remove(label)
        for label, count in counts.items():
            self.resident.labels(label).set(count)
        self._resident = set(counts)
        self.residents.set(len(adapters))

    def forget(self, adapter: str) -> None:
        """A removed adapter's series go, and its place is free for another."""
        if adapter in self._adapters:
            self._adapters.discard(adapter)
            self._resident.discard(adapter)
            for metric in self._by_adapter():
                metric.remove_by_labels({"adapter": adapter})
            self.resident.remove_by_labels({"adapter": adapter})

    def _by_adapter(self) -> tuple[Counter | Histogram, ...]:
        answers = (self.requests, self.errors, self.tokens, self.first_token_seconds, self.per_token_seconds)
        return (*answers, self.load_seconds, self.evictions)

    def adapter_label(self, adapter: str) -> str:
        """The adapter's name without version while there is room for one more, else "other"."""
        name = adapter.partition("@")[0] or self._base_name
        return self._capped(name, self._adapters, self._max_adapters)

    def error_label(self, kind: str) -> str:
        """The same for kinds of errors, some of which come from the engine."""
        return self._capped(kind, self._error_types, N_ERROR_TYPES)

    def render(self, engine_text: bytes, public_name: Callable[[str], str]) -> bytes:
        """Everything in Prometheus' text format; the engine's names `<adapter>@<64 hex>` through `public_name`."""
        return generate_latest(self.registry) + _with_public_names(engine_text, public_name)

    @staticmethod
    def _capped(name: str, known: set[str], limit: int) -> str:
        if name in known:
            return name
        if len(known) >= limit:
            return OTHER
        known.add(name)
        return name


def _with_public_names(text: bytes, public_name: Callable[[str], str]) -> bytes:
    lines = _newest_lora_info(text.splitlines(keepends=True))
    return ENGINE_NAME.sub(lambda match: public_name(match[0]), b"".join(lines).decode()).encode()


def _newest_lora_info(lines: list[bytes]) -> list[bytes]:
    """Without all but the last written sample of `vllm:lora_requests_info`.

    Its value is the time of writing, and vLLM keeps one series for every mixture of adapters that ever ran together.
    """
    samples = [line for line in lines if line.startswith(LORA_INFO)]
    if not samples:
        return lines
    newest = max(samples, key=lambda line: float(line.rsplit(b" ", 1)[1]))
    return [line for line in lines if not line.startswith(LORA_INFO) or line is newest]
