"""What goes between the ingress and a replica: a request, the start of its answer, then the answer's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]  # names in lower case, as ASGI has them


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request whose body has been read."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    scheme: str
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    body: bytes | tuple[Any, ...]  # where it is large: references to its parts, in their order


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The status line of an answer and its headers."""

    status: int
    headers: Headers

    @property
    def is_event_stream(self) -> bool:
        """Whether server-sent events follow."""
        return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in self.headers)


class ReplicaLost(Exception):
    """The replica that was to answer has died, or cannot be reached any more."""


class ReplicasFull(Exception):
    """Every replica has as many requests as it may, and too many wait already."""
