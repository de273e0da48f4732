"""Completions: `annotations` on the choice, `retrieval` beside `choices`, in the same two chunks of a stream as chat's.

The engine's prompt has the sources in it, so a prompt that is repeated before the answer is the client's own, put here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from server.citations import Markers
from server.citing.bibliography import Bibliography, first_cited
from server.citing.chunks import Readers, cite_chunks


def cite_body(body: dict[str, Any], bibliography: Bibliography) -> dict[str, Any]:
    """The completion with its sources."""
    readers: list[Markers] = []
    choices = [_cited(choice, bibliography, readers) for choice in body["choices"]]
    return {**body, "choices": choices, "retrieval": bibliography.whole(first_cited(readers))}


def cite_frames(frames: AsyncGenerator[str, None], bibliography: Bibliography) -> AsyncGenerator[str, None]:
    """The stream with the sources; each choice has its own citations."""
    return cite_chunks(frames, bibliography, _cite_choice)


def _cited(choice: dict[str, Any], bibliography: Bibliography, readers: list[Markers]) -> dict[str, Any]:
    reader = bibliography.markers()
    readers.append(reader)
    text = reader.feed(choice["text"]) + reader.finish()
    annotations = bibliography.url_citations(reader.citations)
    return {**choice, "text": bibliography.echoed + text, "annotations": annotations}


def _cite_choice(choice: dict[str, Any], bibliography: Bibliography, readers: Readers) -> bool:
    index = choice["index"]
    given = choice["text"]
    echoed = "" if index in readers else bibliography.echoed
    reader = readers.setdefault(index, bibliography.markers())
    choice["text"] = echoed + reader.feed(given)
    if choice.get("finish_reason"):
        choice["text"] += reader.finish()
        choice["annotations"] = bibliography.url_citations(reader.citations)
        return True
    return bool(choice["text"] != given)
