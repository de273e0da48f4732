"""Which version a name means for one request: the alias, or a canary's share of the traffic."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from typing import Any

from adapters.errors import AliasInvalid

Traffic = tuple[tuple[str, float], ...]  # (digest, weight > 0), oldest version first
MAX_WEIGHT = 1e12


@dataclass(frozen=True, slots=True)
class Route:
    """One name's traffic, ready to choose from: `bounds` are the shares summed up, without the last, in 0..1."""

    digests: tuple[str, ...]
    bounds: tuple[float, ...]

    @classmethod
    def of(cls, traffic: Traffic) -> Route:
        """Between two versions a ramp moves only the callers it must, since the older one always comes first."""
        total = sum(weight for _, weight in traffic)
        sums = accumulate(weight / total for _, weight in traffic[:-1])
        return cls(tuple(digest for digest, _ in traffic), tuple(sums))

    def choose(self, name: str, sticky: str) -> str:
        """A digest: always the same for one name and sticky key while the shares stand."""
        if not self.bounds:
            return self.digests[0]
        return self.digests[bisect_right(self.bounds, _position(name, sticky))]


def check_weights(weights: Mapping[str, Any]) -> None:
    """Raise AliasInvalid unless every weight is a positive, finite number and there is at least one."""
    if not weights:
        raise AliasInvalid("traffic names no version; give at least one, such as {version: 1}")
    for version, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight <= MAX_WEIGHT or not math.isfinite(weight):
            raise AliasInvalid(
                f"weight {weight!r} of {version!r} must be above 0 and at most {MAX_WEIGHT:.0e}; leave out what gets "
                "nothing"
            )


def traffic_from(rows: Sequence[Sequence[Any]] | None) -> Traffic:
    """Traffic as the database keeps it."""
    return tuple((digest, weight) for digest, weight in rows or ())


def _position(name: str, sticky: str) -> float:
    """Evenly spread over [0, 1), and not the same for two names: one caller is not first in every canary."""
    text = f"{name}\0{sticky}".encode(errors="surrogatepass")
    return (int.from_bytes(blake2b(text, digest_size=8).digest()) >> 11) / 2**53
