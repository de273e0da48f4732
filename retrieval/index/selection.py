"""Which attachments a search may find: what a filter means for one store at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from retrieval.index.base import Ids


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Attachments by number, ascending. One object stands for one filter at one generation, so that it can be a key."""

    numbers: Ids
    excluded: Ids  # the store's others
