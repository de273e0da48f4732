"""What was measured, by what it is of; and the table of both places side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from bench.retrieval.measures import percentile

Unit = Literal["ms", "tokens/s", "chunks/s"]
SEVERAL = 5  # samples without which a p95 says nothing


@dataclass(slots=True)
class Samples:
    """Figures of one place by name, in the order in which they first came. Seconds are told as ms."""

    units: dict[str, Unit] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def rate(self, name: str, unit: Unit, value: float) -> None:
        """One figure a round."""
        self._add(name, unit, [value])

    def seconds(self, name: str, values: Sequence[float]) -> None:
        """A time for each request."""
        self._add(name, "ms", [1e3 * value for value in values])

    def _add(self, name: str, unit: Unit, values: Sequence[float]) -> None:
        assert self.units.setdefault(name, unit) == unit
        self.values.setdefault(name, []).extend(values)


def table(places: Sequence[str], found: Sequence[Samples]) -> str:
    """Medians, and p95 of times; the ratio is of the second place's median to the first's."""
    first, second = found
    lines = [
        f"| | | {places[0]}: p50 | p95 | {places[1]}: p50 | p95 | ratio of p50 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, unit in first.units.items():
        values = [samples.values[name] for samples in (first, second)]
        p50, p95 = [median(some) for some in values], [_p95(some, unit) for some in values]
        ratio = f"{p50[1] / p50[0]:.2f}" if p50[0] else "–"
        lines.append(f"| {name} | {unit} | {p50[0]:.1f} | {p95[0]} | {p50[1]:.1f} | {p95[1]} | {ratio} |")
    return "\n".join(lines)


def _p95(values: Sequence[float], unit: Unit) -> str:
    return f"{percentile(values, 0.95):.1f}" if unit == "ms" and len(values) >= SEVERAL else ""
