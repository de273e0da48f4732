"""Sources for Open WebUI: counted as it counts them, `[n]` of an answer is the n-th."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from server.citing.bibliography import Bibliography
from server.citing.source_event import source_event
from server.source import Source
from tests.server.citing.answers import TEXTS, bibliography, source


def event(given: Bibliography) -> dict[str, Any]:
    told = source_event(given)
    assert told is not None
    return told


def of_one_file(*sources: Source, page: int | None = None) -> Bibliography:
    """The sources, as passages of the first one's file."""
    same = tuple(
        replace(one, hit=replace(one.hit, passage=replace(one.hit.passage, file_id="file-1", page=page)))
        for one in sources
    )
    given = bibliography()
    return replace(given, retrieved=replace(given.retrieved, sources=same))


def test_every_source_with_its_text_name_and_address() -> None:
    told = event(bibliography())
    assert told["type"] == "source"
    assert told["data"]["document"] == list(TEXTS)
    assert told["data"]["metadata"] == [
        {"source": "https://hats.example/v1/files/file-1/content", "external": True, "name": "colours-1.pdf"},
        {
            "source": "https://hats.example/v1/files/file-2/content#page=7",
            "external": True,
            "name": "colours-2.pdf",
            "page": 6,
        },
        {"source": "https://grass.example/green", "external": True, "name": "colours-3.pdf"},
    ]


def test_the_first_has_the_address_of_its_annotations() -> None:
    """So that a citation is counted to a source that is shown, and makes no further one."""
    given = bibliography()
    addresses = [one["source"] for one in event(given)["data"]["metadata"]]
    assert addresses == [given.link(one) for one in given.retrieved.sources]


def test_passages_of_one_file_stay_apart() -> None:
    addresses = [one["source"] for one in event(of_one_file(source(1), source(2)))["data"]["metadata"]]
    content = "https://hats.example/v1/files/file-1/content"
    assert addresses == [content, f"{content}#source=2"]


def test_passages_of_one_page_stay_apart() -> None:
    addresses = [one["source"] for one in event(of_one_file(source(1), source(2), page=3))["data"]["metadata"]]
    content = "https://hats.example/v1/files/file-1/content#page=3"
    assert addresses == [content, f"{content}&source=2"]


def test_no_sources_no_event() -> None:
    assert source_event(bibliography(skipped="no words")) is None
