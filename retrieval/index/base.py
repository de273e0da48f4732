"""What a search over one store's vectors needs of an index, whatever library is behind it: numpy in, numpy out.

Vectors have row numbers, from 0 in the order in which they were added, and keep them for good. Which rows may be found
is the caller's mask: what was removed is left out by it, and goes when the caller builds a new index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]  # shape (dimensions,), of unit length
Vectors = NDArray[np.float32]  # shape (n, dimensions), rows of unit length
Ids = NDArray[np.int64]  # shape (n,): row numbers, chunk ids or numbers of attachments
Mask = NDArray[np.bool_]  # shape (n,): True for rows that may be found
Scores = NDArray[np.float64]  # shape (n,)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Rows of an index or ids of chunks with their scores, best first."""

    ids: Ids
    scores: Scores


NOTHING = Found(np.zeros(0, dtype=np.int64), np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """What rows are called outside of an index, for one that shares them with others: both of shape (n,)."""

    keys: Ids  # none twice, from 0
    groups: Ids  # what is removed, and mostly filtered, together


class VectorIndex(Protocol):
    """Unit vectors by row number. Any number of threads may search at once."""

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def add(self, vectors: Vectors, names: Names | None = None) -> None:
        """Append rows, at the cost of these alone. An index of this process alone has no use for names."""
        ...

    def search(self, query: Vector, k: int, allowed: Mask) -> Found | None:
        """The k rows of the largest cosine among those allowed (all of them where they are fewer), best first.

        allowed: of shape (len(self),). None when this index cannot tell which they are: ask `cosines` of all of them.
        """
        ...

    def cosines(self, query: Vector, rows: Ids) -> NDArray[np.float32]:
        """The exact cosine of each of these rows, shape (len(rows),)."""
        ...

    def vectors(self, rows: Ids) -> Vectors:
        """A copy of these rows."""
        ...


def best(ids: Ids, scores: NDArray[np.floating], k: int) -> Found:
    """The k largest scores, best first; the smaller id where they are equal."""
    if len(ids) > k:
        kept = np.argpartition(scores, len(scores) - k)[len(scores) - k :] if k else np.zeros(0, dtype=np.int64)
        ids, scores = ids[kept], scores[kept]
    order = np.lexsort((ids, -scores))
    return Found(ids[order], scores[order].astype(np.float64))
