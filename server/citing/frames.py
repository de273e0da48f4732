"""Server-sent events of the engine, read and written."""

from __future__ import annotations

import json
from typing import Any


def read_frame(frame: str) -> dict[str, Any] | None:
    """The JSON object in a frame; None where it has none, as `data: [DONE]`."""
    data = frame[6:] if frame.startswith("data: ") else frame.partition("\ndata: ")[2]
    if not data.startswith("{"):
        return None
    read: dict[str, Any] = json.loads(data)
    return read


def write_frame(data: dict[str, Any], *, event: str = "") -> str:
    """A frame with this object, under an event's name where the dialect has them."""
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
