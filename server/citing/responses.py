"""Responses: a `file_search_call` before everything else of `output`, `file_citation` annotations in its texts.

A request whose turns have no words is not searched for: then there is no call, and `retrieval` says why.

In a stream the call's events come after `response.in_progress`; whatever follows moves by one in `output_index`, and
all events are numbered anew. An annotation is told right after the text that has its marker.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from server.citations import Markers
from server.citing.bibliography import Bibliography, first_cited
from server.citing.frames import read_frame, write_frame

FIRST_EVENTS = ("response.created", "response.queued", "response.in_progress")
LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")


def cite_body(body: dict[str, Any], bibliography: Bibliography) -> dict[str, Any]:
    """The response with its search and citations, as this request's client sees it."""
    return _cited_response(body, _call(bibliography), bibliography)


async def cite_frames(frames: AsyncGenerator[str, None], bibliography: Bibliography) -> AsyncGenerator[str, None]:
    """The stream's events with the search and citations."""
    stream = _Stream(bibliography)
    async with aclosing(frames):
        async for frame in frames:
            event = read_frame(frame)
            if event is None or "sequence_number" not in event:
                yield frame
                continue
            for cited in stream.events(event):
                yield write_frame(cited, event=cited["type"])


def with_results(response: Mapping[str, Any], bibliography: Bibliography) -> dict[str, Any]:
    """The response as it is kept: with what was found, whether this request asked for it or a later one will."""
    output = response.get("output") or []
    results = _results(bibliography)
    found = [{**item, "results": results} if _is_search(item) else item for item in output]
    sources = zip(response["retrieval"]["sources"], bibliography.retrieved.sources, strict=True)
    told = [{**source, "text": retrieved.hit.passage.text} for source, retrieved in sources]
    return {**response, "output": found, "retrieval": {**response["retrieval"], "sources": told}}


def without_results(response: Mapping[str, Any]) -> dict[str, Any]:
    """A kept response as a client sees it that did not ask for results: nothing of the files' text."""
    if "retrieval" not in response:
        return dict(response)
    output = response.get("output") or []
    shown = [{**item, "results": None} if _is_search(item) else item for item in output]
    return {**response, "output": shown, "retrieval": _without_texts(response["retrieval"])}


class _Stream:
    """One stream on its way: its numbers and its texts so far."""

    def __init__(self, bibliography: Bibliography) -> None:
        self._bibliography = bibliography
        self._call = _call(bibliography)
        self._told = False  # of the search
        self._n_events = 0
        self._readers: dict[tuple[int, int], Markers] = {}  # by output and content index

    def events(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What goes out for one of the engine's events."""
        if event["type"] not in FIRST_EVENTS:
            yield from self._search()
        if self._call is not None and isinstance(event.get("output_index"), int):
            event = {**event, "output_index": event["output_index"] + 1}
        for cited in self._cited(event):
            yield self._numbered(cited)
        if event["type"] == "response.in_progress":
            yield from self._search()

    def _search(self) -> Iterator[dict[str, Any]]:
        if not self._told:
            self._told = True
            for told in _search_events(self._call):
                yield self._numbered(told)

    def _cited(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        kind = event["type"]
        if kind == "response.output_text.delta":
            reader = self._reader(event)
            n_known = len(reader.citations)
            text = reader.feed(event["delta"])
            if text or event.get("logprobs"):
                yield {**event, "delta": text}
            yield from self._annotations(event, reader, n_known)
        elif kind == "response.output_text.done":
            reader = self._reader(event)
            n_known = len(reader.citations)
            if rest := reader.finish():
                yield {**_place(event), "type": "response.output_text.delta", "delta": rest, "logprobs": []}
            yield from self._annotations(event, reader, n_known)
            yield {**event, "text": _cited_text(event["text"], self._bibliography.markers())}
        elif kind == "response.content_part.done":
            yield {**event, "part": _cited_part(event["part"], self._bibliography, [])}
        elif kind == "response.output_item.done":
            yield {**event, "item": _cited_item(event["item"], self._bibliography, [])}
        elif kind in LAST_EVENTS:
            yield {**event, "response": _cited_response(event["response"], self._call, self._bibliography)}
        else:
            yield event

    def _annotations(self, event: dict[str, Any], reader: Markers, n_known: int) -> Iterator[dict[str, Any]]:
        new = self._bibliography.file_citations(reader.citations[n_known:])
        for number, annotation in enumerate(new, n_known):
            yield {
                **_place(event),
                "type": "response.output_text.annotation.added",
                "annotation_index": number,
                "annotation": annotation,
            }

    def _reader(self, event: dict[str, Any]) -> Markers:
        return self._readers.setdefault((event["output_index"], event["content_index"]), self._bibliography.markers())

    def _numbered(self, event: dict[str, Any]) -> dict[str, Any]:
        numbered = {**event, "sequence_number": self._n_events}
        self._n_events += 1
        return numbered


def _search_events(call: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if call is None:
        return
    begun = {**call, "status": "in_progress", "queries": [], "results": None}
    steps = ["in_progress", "searching", *(["completed"] if call["status"] == "completed" else [])]
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    for step in steps:
        yield {"type": f"response.file_search_call.{step}", "output_index": 0, "item_id": call["id"]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": call}


def _call(bibliography: Bibliography) -> dict[str, Any] | None:
    retrieved = bibliography.retrieved
    if retrieved.skipped is not None:
        return None
    return {
        "id": f"fs_{uuid.uuid4().hex}",
        "type": "file_search_call",
        "status": "completed" if retrieved.failure is None else "failed",
        "queries": list(retrieved.queries),
        "results": _results(bibliography) if retrieved.include_results else None,
    }


def _results(bibliography: Bibliography) -> list[dict[str, Any]] | None:
    if bibliography.retrieved.failure is not None:
        return None
    return [
        {
            "file_id": source.hit.passage.file_id,
            "filename": source.hit.passage.filename,
            "score": source.hit.score,
            "text": source.hit.passage.text,
            "attributes": dict(source.hit.passage.attributes),
        }
        for source in bibliography.retrieved.sources
    ]


def _is_search(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "file_search_call"


def _cited_response(
    response: dict[str, Any], call: dict[str, Any] | None, bibliography: Bibliography
) -> dict[str, Any]:
    readers: list[Markers] = []
    output = [_cited_item(item, bibliography, readers) for item in response.get("output") or []]
    retrieval = bibliography.whole(first_cited(readers))
    if not bibliography.retrieved.include_results:
        retrieval = _without_texts(retrieval)
    return {**response, "output": output if call is None else [call, *output], "retrieval": retrieval}


def _without_texts(retrieval: Mapping[str, Any]) -> dict[str, Any]:
    sources = [{key: value for key, value in source.items() if key != "text"} for source in retrieval["sources"]]
    return {**retrieval, "sources": sources}


def _cited_item(item: dict[str, Any], bibliography: Bibliography, readers: list[Markers]) -> dict[str, Any]:
    if item.get("type") != "message":
        return item
    return {**item, "content": [_cited_part(part, bibliography, readers) for part in item.get("content") or []]}


def _cited_part(part: dict[str, Any], bibliography: Bibliography, readers: list[Markers]) -> dict[str, Any]:
    if part.get("type") != "output_text":
        return part
    reader = bibliography.markers()
    readers.append(reader)
    text = _cited_text(part["text"], reader)
    return {**part, "text": text, "annotations": bibliography.file_citations(reader.citations)}


def _cited_text(text: str, reader: Markers) -> str:
    return reader.feed(text) + reader.finish()


def _place(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: event[key] for key in ("item_id", "output_index", "content_index")}
