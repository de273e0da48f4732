"""How much the vectors count beside the words, by embedder and language.

hybrid = w · dense + (1 − w) · lexical, both from 0 to 1: dense is max(0, cosine) and lexical the share of the
question's weight that a chunk covers. They are added as they are: among the best hits they spread alike (0.05, 0.06).

w was chosen on training data by nDCG@10 (SciFact's train questions for English, the Portuguese SQuAD sample for
Portuguese), where it is flat around the best:

    all-MiniLM-L6-v2   English      dense .660   lexical .703   w = .30 .739   .40 .743   .50 .739   .60 .735
                       Portuguese   dense .451   lexical .821   w = .05 .825   .15 .830   .25 .827   .50 .788
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """w for the languages that an embedder was trained in, and for all others."""

    languages: Mapping[str, float]  # by ISO 639-1
    others: float


# An embedder that saw English alone is a poor judge of other languages, where words know better.
WEIGHTS = {"all-MiniLM-L6-v2": Weights(languages={"en": 0.4}, others=0.15)}
UNMEASURED = Weights(languages={}, others=0.5)


def dense_weight(embedder: str, languages: Mapping[str, float]) -> float:
    """w for an embedder's name and the languages that a question may be in, with their shares."""
    weights = WEIGHTS.get(embedder.rsplit("/", 1)[-1], UNMEASURED)
    total = sum(languages.values())
    if not total:
        return weights.others
    return sum(weights.languages.get(one, weights.others) * share for one, share in languages.items()) / total
