"""PostgreSQL that stands still: whoever waits for it is let go, where its network would go on believing in it.

Of a machine that has died, keepalives tell. One that is paused, or whose processes wait for a disk, still acknowledges
every packet, and a time limit of PostgreSQL's own stands still with it; so whoever asks looks at the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa

SILENT_SECONDS = 30.0  # longer than anybody waits for a lock, and than statements that clients wait for take
PING_SECONDS = 5.0

T = TypeVar("T")


def end_silence(engine: sa.Engine, clock: Callable[[], float] = time.monotonic) -> None:
    """Have the engine's connections fail with psycopg's OperationalError, and close, when nothing comes for too long.

    clock: seconds. For LISTEN too, where psycopg's own waiting for a notification is shorter.
    """
    kind: type[Any] | None = None

    def connect(_dialect: object, _record: object, arguments: Any, named: Any) -> Any:
        nonlocal kind
        kind = kind or _patient(clock)
        return kind.connect(*arguments, **named)

    sa.event.listen(engine, "do_connect", connect)


@contextmanager
def silent_for(connection: Any, seconds: float) -> Iterator[None]:
    """Let one of their connections (psycopg's, not the pool's) be silent for so long within the block."""
    before, connection.silent_seconds = connection.silent_seconds, seconds
    try:
        yield
    finally:
        connection.silent_seconds = before


def _patient(clock: Callable[[], float]) -> type[Any]:
    import psycopg  # only where there is a PostgreSQL

    class Patient(psycopg.Connection[Any]):
        """Every exchange with the server goes through `wait`; its generator hears at least ten times a second."""

        silent_seconds = SILENT_SECONDS

        def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **named: Any) -> T:
            return super().wait(self._listening(gen), *arguments, **named)

        def _listening(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
            heard = clock()
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    now = clock()
                    if ready:
                        heard = now
                    elif now - heard > self.silent_seconds:
                        self.pgconn.finish()  # what it may still say answers a question that nobody asks any more
                        raise psycopg.OperationalError(f"PostgreSQL has been silent for {self.silent_seconds:g} s")
                    wanted = gen.send(ready)
            except StopIteration as end:
                value: T = end.value
                return value

    return Patient
