"""Where the pages of a list that were given out ended, for clients that delete what they list while they list it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

MOST = 10_000  # ends that are remembered; those that were not asked for longest go first


class Places:
    """The ends of the last pages. Any thread may call it; another process, and another life of this one, knows none."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._ends: OrderedDict[tuple[Hashable, str], tuple[Any, ...]] = OrderedDict()
        self._turn = threading.Lock()

    def note(self, reader: Hashable, cursor: str, place: tuple[Any, ...]) -> None:
        """A page that this reader was given begins or ends with the cursor's item, at this place of the order."""
        with self._turn:
            self._ends[reader, cursor] = place
            self._ends.move_to_end((reader, cursor))
            if len(self._ends) > self._most:
                self._ends.popitem(last=False)

    def find(self, reader: Hashable, cursor: str) -> tuple[Any, ...] | None:
        """Where the item stood when this reader was given it; None when that is not known any more."""
        with self._turn:
            return self._ends.get((reader, cursor))
