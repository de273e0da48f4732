"""Which sources fit into a prompt, and the prompt with them in it.

First comes the client's whole conversation, then the answer, and what is left is for sources: whole chunks, the best
first. An assistant's examples go before any source does. Nothing of the client's is ever cut.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

from retrieval.search import Hit
from server.assistants import Plan
from server.control_tokens import breaker
from server.engine.base import Dialect, Engine
from server.examples import with_one_example_fewer
from server.grounding import HEADER, Shown, grounded, source_block, unshown
from server.rendering import Rendered, answer_tokens, rendered, tokens_of
from server.source import Dropped, Reason, Source
from server.threads import run_in
from server.turns import turns_of, with_text

BETWEEN_TOKENS = 2  # what the empty line between two blocks takes at most
REMEMBERED_BLOCKS = 20_000
THREAD_CHARACTERS = 50_000  # about 10 ms of work; with more, others' streams would wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A request with the sources that it has room for."""

    body: dict[str, Any]
    sources: tuple[Source, ...]  # by file and place, as they stand in the prompt
    dropped: tuple[Dropped, ...]  # best first


async def fitted(body: dict[str, Any], plan: Plan, dialect: Dialect, hits: Sequence[Hit], engine: Engine) -> Fitted:
    """The body with these hits in its last user turn, as many as fit; hits come best first.

    The whole is rendered to be sure that it fits, and that the sources brought no control token with them. Where none
    fits, the turn says so; where not even that fits, the body goes on as it came. It must have a user turn with words.
    """
    kept, dropped = _without_duplicates(hits)
    blocks = await _blocks(kept, engine)
    candidate = _grounded(body, dialect, blocks)
    alone, whole = await asyncio.gather(rendered(body, dialect, engine), rendered(candidate, dialect, engine))
    if alone is None:  # the engine will say what is wrong with it
        return _result(body, hits, [], [*dropped, *((hit, "room") for hit in kept)])
    if await _problem(whole, alone, candidate, plan, blocks, engine) is None:
        return _result(candidate, hits, blocks, dropped)
    roomier, alone, chosen, left_out = await _chosen(body, plan, dialect, blocks, alone, engine)
    dropped += left_out
    while chosen or not blocks:
        candidate = _grounded(roomier, dialect, chosen)
        whole = await rendered(candidate, dialect, engine)
        problem = await _problem(whole, alone, candidate, plan, chosen, engine)
        if problem is None:
            return _result(candidate, hits, chosen, dropped)
        if not chosen:
            break
        dropped.append((chosen.pop().hit, problem))
    if blocks:
        body = await noted(body, plan, dialect, unshown, engine)
    return _result(body, hits, [], dropped)


async def noted(
    body: dict[str, Any], plan: Plan, dialect: Dialect, write: Callable[[str], str], engine: Engine
) -> dict[str, Any]:
    """The body with a note in its last user turn, where there is room for it."""
    candidate = _written(body, dialect, write)
    whole = await rendered(candidate, dialect, engine)
    fits = whole is not None and whole.count <= text_tokens(candidate, plan, engine)
    return candidate if fits else body


def text_tokens(body: Mapping[str, Any], plan: Plan, engine: Engine) -> int:
    """What the prompt's text may take: the context without the answer and without a soft prompt before the text."""
    return engine.facts.context_tokens - plan.n_virtual_tokens - answer_tokens(body, engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A hit and how it would stand in the prompt."""

    hit: Hit
    shown: Shown  # made harmless

    @property
    def text(self) -> str:
        # under the longest number, so that renumbering never makes it longer
        return source_block(99, self.shown)


async def _blocks(hits: Sequence[Hit], engine: Engine) -> list[_Block]:
    if sum(len(hit.passage.text) for hit in hits) < THREAD_CHARACTERS:
        return [_block(hit, engine) for hit in hits]
    return await run_in(None, lambda: [_block(hit, engine) for hit in hits])


def _block(hit: Hit, engine: Engine) -> _Block:
    passage, harmless = hit.passage, breaker(engine.facts.control_strings)
    shown = Shown(title=harmless.title(passage.filename), text=harmless.text(passage.text), page=passage.page)
    return _Block(hit=hit, shown=shown)


def _without_duplicates(hits: Sequence[Hit]) -> tuple[list[Hit], list[tuple[Hit, Reason]]]:
    """Hits that say what no better one says already: the same text out of two stores, or a part of a longer chunk."""
    kept: list[Hit] = []
    dropped: list[tuple[Hit, Reason]] = []
    for hit in hits:
        if any(_within(hit, better) for better in kept):
            dropped.append((hit, "duplicate"))
        else:
            kept.append(hit)
    return kept, dropped


def _within(hit: Hit, better: Hit) -> bool:
    one, other = hit.passage, better.passage
    same_file = one.file_id == other.file_id and other.start <= one.start and one.end <= other.end
    return same_file or one.text.strip() in other.text


async def _problem(
    whole: Rendered | None,
    alone: Rendered,
    candidate: dict[str, Any],
    plan: Plan,
    blocks: Sequence[_Block],
    engine: Engine,
) -> Reason | None:
    """Why a prompt cannot be sent like that."""
    if whole is None or whole.count > text_tokens(candidate, plan, engine):
        return "room"
    if whole.controls is not None:
        return None if whole.controls == alone.controls else "control_tokens"
    if not blocks or not engine.facts.control_ids:
        return None
    joined = await tokens_of("\n\n".join(block.text for block in blocks), engine)
    return "control_tokens" if joined.controls else None


async def _chosen(
    body: dict[str, Any], plan: Plan, dialect: Dialect, blocks: Sequence[_Block], alone: Rendered, engine: Engine
) -> tuple[dict[str, Any], Rendered, list[_Block], list[tuple[Hit, Reason]]]:
    """The body with as few examples less as needed, its length, the blocks to try with it, and those left out."""
    counts = _COUNTS.setdefault(engine, _Counts())
    texts = [HEADER, *(block.text for block in blocks)]
    header, *measured = await asyncio.gather(*(counts.of(text, engine) for text in texts))
    safe = [(block, size) for block, size in zip(blocks, measured, strict=True) if not size.controls]
    dropped: list[tuple[Hit, Reason]] = [
        (block.hit, "control_tokens") for block, size in zip(blocks, measured, strict=True) if size.controls
    ]
    limit = text_tokens(body, plan, engine) - header.count - BETWEEN_TOKENS
    wanted = sum(size.count + BETWEEN_TOKENS for _, size in safe)
    while alone.count + wanted > limit and (fewer := with_one_example_fewer(body, plan.assistant, dialect)):
        shorter = await rendered(fewer, dialect, engine)
        if shorter is None:
            break
        body, alone = fewer, shorter
    chosen, room = [], limit - alone.count
    for block, size in safe:
        if size.count + BETWEEN_TOKENS <= room:
            room -= size.count + BETWEEN_TOKENS
            chosen.append(block)
        else:
            dropped.append((block.hit, "room"))
    return body, alone, chosen, dropped


def _grounded(body: dict[str, Any], dialect: Dialect, blocks: Sequence[_Block]) -> dict[str, Any]:
    shown = [block.shown for block in _in_order(blocks)]
    return _written(body, dialect, lambda question: grounded(question, shown))


def _written(body: dict[str, Any], dialect: Dialect, write: Callable[[str], str]) -> dict[str, Any]:
    turn = next(turn for turn in reversed(turns_of(body, dialect)) if turn.role == "user")
    return with_text(body, dialect, turn, write)


def _in_order(blocks: Sequence[_Block]) -> list[_Block]:
    """By file and place, so that the same sources are the same text whatever was asked."""
    return sorted(blocks, key=lambda block: _place(block.hit))


def _place(hit: Hit) -> tuple[str, str, int, int]:
    passage = hit.passage
    return passage.filename, passage.file_id, passage.position, passage.chunk_id


def _result(
    body: dict[str, Any], hits: Sequence[Hit], chosen: Sequence[_Block], dropped: Sequence[tuple[Hit, Reason]]
) -> Fitted:
    rank = {hit.passage.chunk_id: place for place, hit in enumerate(hits)}
    ordered = sorted(dropped, key=lambda one: rank[one[0].passage.chunk_id])
    return Fitted(
        body=body,
        sources=tuple(Source(number=i, hit=block.hit) for i, block in enumerate(_in_order(chosen), 1)),
        dropped=tuple(Dropped.of(hit, reason) for hit, reason in ordered),
    )


class _Counts:
    """Texts' lengths in tokens, the latest remembered: the same passages come again and again."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Rendered] = OrderedDict()

    async def of(self, text: str, engine: Engine) -> Rendered:
        key = sha256(text.encode(errors="surrogatepass")).digest()
        known = self._known.pop(key, None) or await tokens_of(text, engine)
        self._known[key] = known
        if len(self._known) > REMEMBERED_BLOCKS:
            self._known.popitem(last=False)
        return known


_COUNTS: WeakKeyDictionary[Engine, _Counts] = WeakKeyDictionary()  # a cache: an engine's tokenizer never changes
