"""What is measured of a ranking: nDCG and recall, as BEIR has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean


def ndcg(rankings: Sequence[Sequence[str]], judged: Sequence[Mapping[str, int]], k: int = 10) -> float:
    """Mean normalised discounted cumulative gain at k (Järvelin and Kekäläinen, 2002; gains as judged)."""
    return fmean(_dcg([gains.get(one, 0) for one in ranking[:k]]) / _dcg(sorted(gains.values(), reverse=True)[:k])
                 for ranking, gains in zip(rankings, judged, strict=True))  # fmt: skip  # one quotient, one line


def recall(rankings: Sequence[Sequence[str]], judged: Sequence[Mapping[str, int]], k: int = 10) -> float:
    """Mean share of a question's documents that are among the first k."""
    return fmean(
        sum(one in gains for one in set(ranking[:k])) / len(gains)
        for ranking, gains in zip(rankings, judged, strict=True)
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))
