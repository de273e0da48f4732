"""An index whose files are not what they were: told as such, so that whoever has the truth can make another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from retrieval.index.base import Ids

PANIC = "PanicException"  # of Rust libraries, through PyO3; no Exception, and nowhere to import it from


class IndexDamaged(RuntimeError):
    """What the index holds cannot be read; the message has the library's words."""


class VectorsDamaged(IndexDamaged):
    """Vectors that are kept elsewhere are not as they were put there."""


class RowsMissing(VectorsDamaged):
    """Some of them are not there."""

    def __init__(self, message: str, keys: Ids) -> None:
        super().__init__(message)
        self.keys = keys  # the names of the rows


@contextmanager
def damage_told(*kinds: type[Exception]) -> Iterator[None]:
    """Raises IndexDamaged for a library's panic, and for exceptions of these kinds; a decorator too."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, kinds) or type(error).__name__ == PANIC:
            raise IndexDamaged(f"{type(error).__name__}: {error}") from error
        raise
