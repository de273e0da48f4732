"""Streams of chat completions and completions: the same chunks, with the text in another place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

from server.citations import Markers
from server.citing.bibliography import Bibliography, first_cited
from server.citing.frames import read_frame, write_frame

Readers = dict[int, Markers]  # by the choice's index
CiteChoice = Callable[[dict[str, Any], Bibliography, Readers], bool]


async def cite_chunks(
    frames: AsyncGenerator[str, None],
    bibliography: Bibliography,
    cite_choice: CiteChoice,
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncGenerator[str, None]:
    """The same chunks, none more and none less: the first carries `retrieval`, one with `finish_reason` what is cited.

    `cite_choice` writes a chunk's choice anew and says whether anything in it is another now. Where markers are taken
    out, text that may begin one comes with a later chunk, and the chunk that it was in goes on without it.

    beside: what else the first chunk carries.
    """
    readers: Readers = {}
    opened = False
    async with aclosing(frames):
        async for frame in frames:
            chunk = read_frame(frame)
            if chunk is None or not chunk.get("choices"):  # usage, an error, the end
                yield frame
                continue
            changed = [cite_choice(choice, bibliography, readers) for choice in chunk["choices"]]
            retrieval = {} if opened else bibliography.opening()
            chunk |= {} if opened else beside
            opened = True
            if any(choice.get("finish_reason") for choice in chunk["choices"]):
                retrieval |= bibliography.closing(first_cited(readers.values()))
            if retrieval:
                chunk["retrieval"] = retrieval
            yield write_frame(chunk) if retrieval or any(changed) else frame
