"""Sources on an answer: what each dialect says of them, in whole bodies and in streams.

An answer without retrieval never comes here. With it a frame is read, and written again only where something is added
to it or taken out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from server.citing import chat, completions, messages, responses
from server.citing.bibliography import Bibliography
from server.engine.base import Dialect

_BODIES: dict[Dialect, Callable[[dict[str, Any], Bibliography], dict[str, Any]]] = {
    "chat": chat.cite_body,
    "completions": completions.cite_body,
    "responses": responses.cite_body,
    "messages": messages.cite_body,
}
_FRAMES: dict[Dialect, Callable[[AsyncGenerator[str, None], Bibliography], AsyncGenerator[str, None]]] = {
    "chat": chat.cite_frames,
    "completions": completions.cite_frames,
    "responses": responses.cite_frames,
    "messages": messages.cite_frames,
}


def cite_body(dialect: Dialect, body: dict[str, Any], bibliography: Bibliography) -> dict[str, Any]:
    """The engine's answer with its sources and citations, as a new object."""
    return _BODIES[dialect](body, bibliography)


def cite_frames(
    dialect: Dialect, frames: AsyncGenerator[str, None], bibliography: Bibliography
) -> AsyncGenerator[str, None]:
    """The engine's stream with the same; closing it closes `frames`, unless nothing was read yet."""
    return _FRAMES[dialect](frames, bibliography)
