"""Sources of an answer, as retrieval gives them, and frames as the engine gives them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from retrieval.passage import Passage
from retrieval.search import Hit, SearchOptions
from server.citing import cite_frames
from server.citing.bibliography import Bibliography
from server.engine.base import Dialect
from server.retrieved import Retrieved
from server.settings import Settings
from server.source import Dropped, Source
from server.source_links import source_links

TEXTS = ("The sky is blue.", "O céu é azul.", "Grass is green.")


def source(number: int, *, page: int | None = None, **attributes: Any) -> Source:
    text = TEXTS[number - 1]
    passage = Passage(
        chunk_id=100 + number,
        store_id="vs_1",
        file_id=f"file-{number}",
        filename=f"colours-{number}.pdf",
        attributes=attributes,
        position=0,
        text=text,
        page=page,
        heading=(),
        start=0,
        end=len(text),
        language="en",
        tokens=5,
    )
    return Source(number=number, hit=Hit(passage=passage, score=0.5, dense=0.5, lexical=None))


SOURCES = (source(1), source(2, page=7), source(3, url="https://grass.example/green"))
DROPPED = Dropped(file_id="file-9", filename="9.pdf", chunk_id=9, page=None, score=0.1, reason="room")


def retrieved(
    *, strip: bool = False, results: bool = False, failure: str | None = None, skipped: str | None = None
) -> Retrieved:
    nothing = failure is not None or skipped is not None
    return Retrieved(
        queries=() if skipped else ("what is blue?",),
        sources=() if nothing else SOURCES,
        dropped=() if nothing else (DROPPED,),
        failure=failure,
        skipped=skipped,
        options=SearchOptions(),
        include_results=results,
        strip_markers=strip,
    )


def bibliography(*, prescribed: bool = False, echoed: str = "", **how: Any) -> Bibliography:
    """Three sources: the second has a page, the third an address of its own."""
    link = source_links(Settings(engine="fake", public_url="https://hats.example"), "")
    return Bibliography(retrieved=retrieved(**how), link=link, prescribed=prescribed, echoed=echoed)


async def cited(dialect: Dialect, frames: Sequence[str], given: Bibliography) -> list[str]:
    """The frames that a client gets."""
    return [frame async for frame in cite_frames(dialect, _sent(frames), given)]


async def _sent(frames: Sequence[str]) -> AsyncGenerator[str, None]:
    for frame in frames:
        yield frame


def frame(body: dict[str, Any], *, event: str = "") -> str:
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {json.dumps(body, ensure_ascii=False)}\n\n"


def objects(frames: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(frame.partition("data: ")[2]) for frame in frames if "data: {" in frame]
