"""Anthropic's messages: `citations` in text blocks, one for each source that a block cites; `retrieval` beside them.

In a stream a source's `citations_delta` comes right after the text that cites it first. `message_start` carries
`retrieval` without `cited`, `message_delta` carries `retrieval.cited`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Any

from server.citations import Markers
from server.citing.bibliography import Bibliography, first_cited
from server.citing.frames import read_frame, write_frame


def cite_body(body: dict[str, Any], bibliography: Bibliography) -> dict[str, Any]:
    """The message with its sources."""
    readers: list[Markers] = []
    content = [_cited(block, bibliography, readers) for block in body.get("content") or []]
    return {**body, "content": content, "retrieval": bibliography.whole(first_cited(readers))}


async def cite_frames(frames: AsyncGenerator[str, None], bibliography: Bibliography) -> AsyncGenerator[str, None]:
    """The stream's events with the sources."""
    readers: dict[int, Markers] = {}  # by the block's index
    async with aclosing(frames):
        async for frame in frames:
            event = read_frame(frame)
            kind = event.get("type") if event else None
            if event is None or kind not in _EVENTS:
                yield frame
                continue
            for cited in _EVENTS[kind](event, readers, bibliography):
                yield frame if cited is event else write_frame(cited, event=cited["type"])


def _cited(block: dict[str, Any], bibliography: Bibliography, readers: list[Markers]) -> dict[str, Any]:
    if block.get("type") != "text" or not block.get("text"):
        return block
    reader = bibliography.markers()
    readers.append(reader)
    text = reader.feed(block["text"]) + reader.finish()
    cited = {**block, "text": text}
    if reader.cited:
        cited["citations"] = bibliography.search_result_locations(reader.cited)
    return cited


def _started(event: dict[str, Any], _: dict[int, Markers], bibliography: Bibliography) -> Iterator[dict[str, Any]]:
    yield {**event, "message": {**event["message"], "retrieval": bibliography.opening()}}


def _delta(event: dict[str, Any], readers: dict[int, Markers], bibliography: Bibliography) -> Iterator[dict[str, Any]]:
    if event["delta"].get("type") != "text_delta":
        yield event
        return
    index, given = event["index"], event["delta"]["text"]
    reader = readers.setdefault(index, bibliography.markers())
    known = reader.cited
    text = reader.feed(given)
    if text == given:
        yield event
    elif text:
        yield _text_delta(index, text)
    yield from _citations(index, reader, known, bibliography)


def _block_stopped(
    event: dict[str, Any], readers: dict[int, Markers], bibliography: Bibliography
) -> Iterator[dict[str, Any]]:
    index = event["index"]
    if index in readers:
        reader = readers[index]
        known = reader.cited
        if rest := reader.finish():
            yield _text_delta(index, rest)
        yield from _citations(index, reader, known, bibliography)
    yield event


def _ended(event: dict[str, Any], readers: dict[int, Markers], bibliography: Bibliography) -> Iterator[dict[str, Any]]:
    yield {**event, "retrieval": bibliography.closing(first_cited(readers.values()))}


_EVENTS = {
    "message_start": _started,
    "content_block_delta": _delta,
    "content_block_stop": _block_stopped,
    "message_delta": _ended,
}


def _citations(
    index: int, reader: Markers, known: Iterable[int], bibliography: Bibliography
) -> Iterator[dict[str, Any]]:
    new = [number for number in reader.cited if number not in known]
    for citation in bibliography.search_result_locations(new):
        delta = {"type": "citations_delta", "citation": citation}
        yield {"type": "content_block_delta", "index": index, "delta": delta}


def _text_delta(index: int, text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
