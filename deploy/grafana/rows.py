"""What the dashboard shows: a row per question that an operator asks, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HERE = 'instance=~"$instance"'
BY_ADAPTER = f'{HERE}, adapter=~"$adapter"'
OVER = "[$__rate_interval]"
HITS, QUERIES = "vllm:prefix_cache_hits", "vllm:prefix_cache_queries"  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart: what it shows, in which unit, and the series as (legend, PromQL)."""

    title: str
    says: str
    unit: str
    series: Sequence[tuple[str, str]]
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Charts that belong together."""

    title: str
    panels: Sequence[Panel]


def quantiles(metric: str, labels: str, by: str = "") -> list[tuple[str, str]]:
    """The 50th, 95th and 99th percentile of a histogram; by one label, only the 95th of each of its values."""
    groups = f"le, {by}" if by else "le"
    rate = f"sum by ({groups}) (rate({metric}_bucket{{{labels}}}{OVER}))"
    if by:
        return [(f"{{{{{by}}}}}", f"histogram_quantile(0.95, {rate})")]
    return [(f"p{share}", f"histogram_quantile(0.{share}, {rate})") for share in (50, 95, 99)]


def rates(metric: str, labels: str, by: str) -> list[tuple[str, str]]:
    """How often per second, by one label."""
    return [(f"{{{{{by}}}}}", f"sum by ({by}) (rate({metric}{{{labels}}}{OVER}))")]


ROWS = (
    Row(
        title="Requests",
        panels=(
            Panel(
                title="Requests by status",
                says="Ended requests per second; 429 are limits and a full queue, 503 a start or a missing database.",
                unit="reqps",
                series=rates("manyhats_requests_total", BY_ADAPTER, "status"),
                stacked=True,
            ),
            Panel(
                title="Requests by adapter",
                says="Ended requests per second. What is about no model has no name.",
                unit="reqps",
                series=rates("manyhats_requests_total", BY_ADAPTER, "adapter"),
                stacked=True,
            ),
            Panel(
                title="Errors by kind",
                says="What clients were told, as `error.code` or `error.type`; also failures inside a stream.",
                unit="reqps",
                series=rates("manyhats_errors_total", BY_ADAPTER, "type"),
            ),
            Panel(
                title="Under way and in line",
                says="Generations that hold a place, those that wait for one, and what the engine makes of them.",
                unit="short",
                series=[
                    ("under way or in line", f"sum(manyhats_requests_running{{{HERE}}})"),
                    ("in line", f"sum(manyhats_queue_depth{{{HERE}}})"),
                    ("running in the engine", f"sum(vllm:num_requests_running{{{HERE}}})"),
                    ("waiting in the engine", f"sum(vllm:num_requests_waiting{{{HERE}}})"),
                ],
                width=16,
            ),
            Panel(
                title="What runs",
                says="Version and base model; a step to 0 is a start.",
                unit="short",
                series=[("{{version}} {{base}}", f"sum by (version, base) (manyhats_build_info{{{HERE}}})")],
            ),
        ),
    ),
    Row(
        title="Speed",
        panels=(
            Panel(
                title="First token",
                says="From the request's start to its first streamed token, waiting included.",
                unit="s",
                series=quantiles("manyhats_time_to_first_token_seconds", BY_ADAPTER),
            ),
            Panel(
                title="First token by adapter, p95",
                says="An adapter far above the others is one that is loaded anew for each of its requests.",
                unit="s",
                series=quantiles("manyhats_time_to_first_token_seconds", BY_ADAPTER, "adapter"),
            ),
            Panel(
                title="Time per token",
                says="Mean time between the tokens of one streamed answer.",
                unit="s",
                series=quantiles("manyhats_time_per_output_token_seconds", BY_ADAPTER),
            ),
            Panel(
                title="Tokens per second",
                says="Of ended answers: what came in, and what was written.",
                unit="short",
                series=rates("manyhats_tokens_total", BY_ADAPTER, "kind"),
            ),
            Panel(
                title="Tokens written per second, by adapter",
                says="Of ended answers.",
                unit="short",
                series=rates("manyhats_tokens_total", f'{BY_ADAPTER}, kind="completion"', "adapter"),
                stacked=True,
            ),
            Panel(
                title="Where a request's time goes in the engine, p95",
                says="vLLM's own clocks: waiting, reading the prompt, writing.",
                unit="s",
                series=[
                    (name, f"histogram_quantile(0.95, sum by (le) (rate(vllm:{metric}_bucket{{{HERE}}}{OVER})))")
                    for name, metric in (
                        ("waiting", "request_queue_time_seconds"),
                        ("prompt", "request_prefill_time_seconds"),
                        ("writing", "request_decode_time_seconds"),
                    )
                ],
            ),
        ),
    ),
    Row(
        title="Adapters",
        panels=(
            Panel(
                title="In the slots",
                says="Versions that can compute now, by adapter.",
                unit="short",
                series=[
                    ("all", f"sum(manyhats_adapters_resident{{{HERE}}})"),
                    ("{{adapter}}", f"sum by (adapter) (manyhats_adapter_resident{{{BY_ADAPTER}}})"),
                ],
            ),
            Panel(
                title="Loads and evictions",
                says="Per second. Both high together: more adapters are in use than there are slots.",
                unit="ops",
                series=[
                    ("loads", f"sum(rate(manyhats_adapter_load_seconds_count{{{BY_ADAPTER}}}{OVER}))"),
                    ("evictions", f"sum(rate(manyhats_adapter_evictions_total{{{BY_ADAPTER}}}{OVER}))"),
                ],
            ),
            Panel(
                title="Time of a load, p95",
                says="Each load holds up all streams for a moment.",
                unit="s",
                series=quantiles("manyhats_adapter_load_seconds", BY_ADAPTER, "adapter"),
            ),
        ),
    ),
    Row(
        title="The engine's memory",
        panels=(
            Panel(
                title="KV cache in use",
                says="Near 100 %, requests wait or are put back (preempted).",
                unit="percentunit",
                series=[("{{instance}}", f"vllm:kv_cache_usage_perc{{{HERE}}}")],
            ),
            Panel(
                title="Prompt tokens found in the prefix cache",
                says="The share that was not computed again.",
                unit="percentunit",
                series=[
                    (
                        "found",
                        f"sum(rate({HITS}_total{{{HERE}}}{OVER})) / sum(rate({QUERIES}_total{{{HERE}}}{OVER}))",
                    )
                ],
            ),
            Panel(
                title="Preemptions",
                says="Requests per second that lost their place in the KV cache and are computed again.",
                unit="ops",
                series=[("preempted", f"sum(rate(vllm:num_preemptions_total{{{HERE}}}{OVER}))")],
            ),
        ),
    ),
    Row(
        title="Retrieval",
        panels=(
            Panel(
                title="Time of a search's stages, p95",
                says="`stores`: what may be searched; `embed`: the question; `search`: the indexes and the rows.",
                unit="s",
                series=quantiles("manyhats_retrieval_seconds", HERE, "stage"),
            ),
            Panel(
                title="Searches, and those that broke off",
                says="Per second.",
                unit="ops",
                series=[
                    ("searches", f'sum(rate(manyhats_retrieval_seconds_count{{{HERE}, stage="search"}}{OVER}))'),
                    (
                        "broken off: {{stage}}",
                        f"sum by (stage) (rate(manyhats_retrieval_failures_total{{{HERE}}}{OVER}))",
                    ),
                ],
            ),
            Panel(
                title="Index files",
                says="Bytes on the disk; all of them can be made again.",
                unit="bytes",
                series=[("{{instance}}", f"manyhats_index_bytes{{{HERE}}}")],
            ),
        ),
    ),
    Row(
        title="Files and jobs",
        panels=(
            Panel(
                title="Files to be read",
                says="`later`: a failure that may pass, tried again.",
                unit="short",
                series=[("{{state}}", f"sum by (state) (manyhats_ingestion_queue{{{HERE}}})")],
                stacked=True,
            ),
            Panel(
                title="The file that waits longest",
                says="Since it was attached.",
                unit="s",
                series=[("{{instance}}", f"manyhats_ingestion_oldest_seconds{{{HERE}}}")],
            ),
            Panel(
                title="Files in vector stores",
                says="By status, over all stores.",
                unit="short",
                series=[
                    ("{{status}}", f"sum by (status) (manyhats_store_files{{{HERE}}})"),
                    ("stores", f"sum(manyhats_vector_stores{{{HERE}}})"),
                ],
            ),
            Panel(
                title="Fine-tuning jobs",
                says="By status.",
                unit="short",
                series=[("{{status}}", f"sum by (status) (manyhats_fine_tuning_jobs{{{HERE}}})")],
                width=24,
            ),
        ),
    ),
)
