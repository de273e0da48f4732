"""Chat completions: `annotations` on the message, `retrieval` beside `choices`.

In a stream the first chunk carries `retrieval` without `cited` and the sources as Open WebUI's `event`, the one with
`finish_reason` carries `delta.annotations` and `retrieval.cited`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from server.citations import Markers
from server.citing.bibliography import Bibliography, first_cited
from server.citing.chunks import Readers, cite_chunks
from server.citing.source_event import source_event


def cite_body(body: dict[str, Any], bibliography: Bibliography) -> dict[str, Any]:
    """The completion with its sources; a message that only calls tools has no annotations."""
    readers: list[Markers] = []
    choices = [_cited(choice, bibliography, readers) for choice in body["choices"]]
    return {**body, "choices": choices, "retrieval": bibliography.whole(first_cited(readers))}


def cite_frames(frames: AsyncGenerator[str, None], bibliography: Bibliography) -> AsyncGenerator[str, None]:
    """The stream with the sources; each choice has its own citations."""
    shown = source_event(bibliography)
    return cite_chunks(frames, bibliography, _cite_choice, {"event": shown} if shown else {})


def _cited(choice: dict[str, Any], bibliography: Bibliography, readers: list[Markers]) -> dict[str, Any]:
    message = choice["message"]
    content = message.get("content")
    if not isinstance(content, str) or not content:
        return choice
    reader = bibliography.markers()
    readers.append(reader)
    text = reader.feed(content) + reader.finish()
    annotations = bibliography.url_citations(reader.citations)
    return {**choice, "message": {**message, "content": text, "annotations": annotations}}


def _cite_choice(choice: dict[str, Any], bibliography: Bibliography, readers: Readers) -> bool:
    delta = choice["delta"]
    index = choice["index"]
    given = delta.get("content")
    if isinstance(given, str) and given:
        reader = readers.setdefault(index, bibliography.markers())
        delta["content"] = reader.feed(given)
    if choice.get("finish_reason") and index in readers:
        reader = readers[index]
        if rest := reader.finish():
            delta["content"] = (delta.get("content") or "") + rest
        delta["annotations"] = bibliography.url_citations(reader.citations)
        return True
    return bool(delta.get("content") != given)
