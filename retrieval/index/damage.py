"""An index whose files are not what they were: told as such, so that whoever has the truth can make another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PANIC = "PanicException"  # of Rust libraries, through PyO3; no Exception, and nowhere to import it from


class IndexDamaged(RuntimeError):
    """What the index holds cannot be read; the message has the library's words."""


@contextmanager
def damage_told(*kinds: type[Exception]) -> Iterator[None]:
    """Raises IndexDamaged for a library's panic, and for exceptions of these kinds; a decorator too."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, kinds) or type(error).__name__ == PANIC:
            raise IndexDamaged(f"{type(error).__name__}: {error}") from error
        raise
