"""An engine that answers from a script: for tests of clients and of everything around the engine (`--engine fake`).

It speaks all four dialects, streamed or not, and says in its answer which weights it was asked for, so that a test sees
a wrong adapter. It holds adapters as the real engine does and refuses one that was not loaded.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from typing import Any

from server.engine.base import (
    Answer,
    Call,
    EngineAdapter,
    EngineFacts,
    EngineRefused,
    EngineUnavailable,
    LoadFailed,
    Tool,
    Usage,
)


class FakeEngine:
    """Answers every request with `words`, then the engine name that it was asked for; or with exactly `pieces`."""

    def __init__(
        self,
        words: str = "the rent is due",
        *,
        pieces: Sequence[str] | None = None,
        fails_with: Exception | None = None,
        after: int = 0,
        context_tokens: int = 2048,
        pause_seconds: float = 0.0,
    ) -> None:
        """pause_seconds: between two frames of a stream."""
        self.facts = EngineFacts(
            context_tokens=context_tokens,
            vocabulary=256,
            dtype="none",
            device="none",
            version="0",
            has_system_role=True,
        )
        self.words = words
        self.pieces = pieces  # of a stream, as they are cut; a whole answer is all of them
        self.fails_with = fails_with
        self.after = after
        self.pause_seconds = pause_seconds
        self.calls: list[Call] = []
        self.loaded: dict[str, EngineAdapter] = {}
        self.loads: list[str] = []
        self.aborted: list[str] = []
        self.dead = False
        self.asked = asyncio.Event()  # set by the first request
        self.gate = asyncio.Event()  # cleared by a test that wants answers to wait
        self.gate.set()
        self.load_gate = asyncio.Event()
        self.load_gate.set()
        self.broken_loads: set[str] = set()
        self.measured = b""  # its own metrics, whatever is asked for

    async def answer(self, call: Call) -> Answer:
        if self.dead:
            raise EngineUnavailable("the engine is down; try again in a minute")
        self.calls.append(call)
        self.asked.set()
        if call.adapter is not None and call.adapter.engine_name not in self.loaded:
            raise EngineRefused(f"{call.adapter.engine_name!r} is not loaded", status=404)
        if call.dialect != "completions" and not (call.body.get("messages") or call.body.get("input")):
            raise EngineRefused("messages: Field required", param="messages")
        pieces = self._pieces(call)
        usage = Usage(prompt_tokens=_prompt_tokens(call.body), completion_tokens=len(pieces))
        if call.body.get("stream"):
            counted: list[Usage] = []  # as the real one: known at the end of a stream, and never of one broken off
            frames = self._frames(call, pieces, usage, counted)
            first = await anext(frames)
            return Answer(body=None, frames=_rejoined(first, frames), usage=lambda: counted[0] if counted else Usage())
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.aborted.append(call.request_id)
            raise
        if self.fails_with is not None:
            raise self.fails_with
        return Answer(body=_whole(call, "".join(pieces), usage), frames=None, usage=lambda: usage)

    def _pieces(self, call: Call) -> Sequence[str]:
        limit = _limit(call.body)
        if self.pieces is not None:
            return self.pieces[:limit] if isinstance(limit, int) else self.pieces
        words = [*self.words.split(), call.adapter.engine_name if call.adapter else "base"]
        words = words[:limit] if isinstance(limit, int) else words
        return [word if i == 0 else f" {word}" for i, word in enumerate(words)]

    async def _frames(
        self, call: Call, pieces: Sequence[str], usage: Usage, counted: list[Usage]
    ) -> AsyncGenerator[str, None]:
        finished = False
        try:
            await self.gate.wait()
            for i, frame in enumerate(_stream(call, pieces, usage)):
                if self.fails_with is not None and i == self.after:
                    raise self.fails_with
                yield frame
                await asyncio.sleep(self.pause_seconds)
                await self.gate.wait()
            counted.append(usage)
            finished = True
        finally:
            if not finished:
                self.aborted.append(call.request_id)

    async def load(self, adapter: EngineAdapter) -> None:
        await self.load_gate.wait()
        if adapter.engine_name in self.broken_loads:
            raise LoadFailed(f"the engine did not take {adapter.engine_name!r}")
        if not (adapter.path / "adapter_config.json").is_file():
            raise LoadFailed(f"no adapter at {adapter.path}")
        self.loaded[adapter.engine_name] = adapter
        self.loads.append(adapter.engine_name)

    async def unload(self, adapter: EngineAdapter) -> None:
        self.loaded.pop(adapter.engine_name, None)

    async def count_tokens(self, tool: Tool, body: dict[str, Any]) -> dict[str, Any]:
        if tool == "detokenize":
            tokens = body.get("tokens")
            if not isinstance(tokens, list) or any(type(token) is not int or not 0 <= token < 256 for token in tokens):
                raise EngineRefused("tokens: a list of byte values", param="tokens")
            return {"prompt": bytes(tokens).decode(errors="replace")}
        if tool == "count_tokens":
            return {"input_tokens": _prompt_tokens(body)}
        text = json.dumps(body["messages"]) if "messages" in body else body.get("prompt")
        if not isinstance(text, str):
            raise EngineRefused("prompt: a text", param="prompt")
        return {"tokens": list(text.encode()), "count": len(text.encode()), "max_model_len": self.facts.context_tokens}

    def alive(self) -> bool:
        return not self.dead

    def metrics(self, names: Collection[str] | None = None) -> bytes:
        return self.measured

    async def close(self) -> None:
        self.dead = True


async def _rejoined(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    try:
        yield first
        async for frame in rest:
            yield frame
    finally:
        await rest.aclose()


def _limit(body: dict[str, Any]) -> Any:
    return body.get("max_tokens") or body.get("max_completion_tokens") or body.get("max_output_tokens")


def _prompt_tokens(body: dict[str, Any]) -> int:
    asked = body.get("messages") or body.get("input") or body.get("prompt") or ""
    return len(json.dumps(asked).split())


def _whole(call: Call, text: str, usage: Usage) -> dict[str, Any]:
    counted = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    counted["total_tokens"] = sum(counted.values())
    created = int(time.time())
    if call.dialect == "chat":
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        kind, prefix = "chat.completion", "chatcmpl"
    elif call.dialect == "completions":
        choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        kind, prefix = "text_completion", "cmpl"
    elif call.dialect == "messages":
        return {
            "id": f"msg_{call.request_id}", "type": "message", "role": "assistant", "model": call.public_name,
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens},
        }  # fmt: skip  # one field per line would hide the shape
    else:
        return _response(call, text, usage)
    return {
        "id": f"{prefix}-{call.request_id}", "object": kind, "created": created, "model": call.public_name,
        "choices": [choice], "usage": counted,
    }  # fmt: skip  # as above


def _response(call: Call, text: str | None, usage: Usage | None) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    item = {
        "id": f"msg_{call.request_id}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [content],
    }
    return {
        "id": call.request_id, "object": "response", "created_at": int(time.time()), "model": call.public_name,
        "status": "in_progress" if text is None else "completed", "output": [] if text is None else [item],
        "error": None, "incomplete_details": None, "instructions": call.body.get("instructions"),
        "metadata": call.body.get("metadata") or {}, "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0,
        "tool_choice": "auto", "tools": call.body.get("tools") or [], "background": False, "previous_response_id": None,
        "usage": None if usage is None else {
            "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }  # fmt: skip  # as above


def _stream(call: Call, pieces: Sequence[str], usage: Usage) -> Iterator[str]:
    if call.dialect == "responses":
        yield from _response_events(call, pieces, usage)
        return
    if call.dialect == "messages":
        yield from _message_events(call, pieces, usage)
        return
    base = {"id": f"cmpl-{call.request_id}", "created": int(time.time()), "model": call.public_name}
    chat = call.dialect == "chat"
    base["object"] = "chat.completion.chunk" if chat else "text_completion"
    if chat:
        delta = {"role": "assistant", "content": ""}
        yield _data({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    for i, piece in enumerate(pieces):
        finish = "stop" if i == len(pieces) - 1 else None
        choice = {"index": 0, "finish_reason": finish, **({"delta": {"content": piece}} if chat else {"text": piece})}
        yield _data({**base, "choices": [choice]})
    if (call.body.get("stream_options") or {}).get("include_usage"):
        counted = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        yield _data({**base, "choices": [], "usage": counted | {"total_tokens": sum(counted.values())}})
    yield "data: [DONE]\n\n"


def _response_events(call: Call, pieces: Sequence[str], usage: Usage) -> Iterator[str]:
    item_id = f"msg_{call.request_id}"
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    started, whole = _response(call, None, None), _response(call, "".join(pieces), usage)
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": started}),
        ("response.in_progress", {"response": started}),
        ("response.output_item.added", {"output_index": 0, "item": {**whole["output"][0], "content": []}}),
        ("response.content_part.added", {**place, "part": {"type": "output_text", "text": "", "annotations": []}}),
        *(("response.output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in pieces),
        ("response.output_text.done", {**place, "text": "".join(pieces), "logprobs": []}),
        ("response.content_part.done", {**place, "part": whole["output"][0]["content"][0]}),
        ("response.output_item.done", {"output_index": 0, "item": whole["output"][0]}),
        ("response.completed", {"response": whole}),
    ]
    for number, (kind, data) in enumerate(events):
        yield _data({"type": kind, "sequence_number": number, **data}, event=kind)


def _message_events(call: Call, pieces: Sequence[str], usage: Usage) -> Iterator[str]:
    started = {**_whole(call, "", usage), "content": [], "stop_reason": None}
    stopped = {"stop_reason": "end_turn", "stop_sequence": None}
    block = {"type": "text", "text": ""}
    yield _data({"type": "message_start", "message": started}, event="message_start")
    yield _data({"type": "content_block_start", "index": 0, "content_block": block}, event="content_block_start")
    for piece in pieces:
        delta = {"type": "text_delta", "text": piece}
        yield _data({"type": "content_block_delta", "index": 0, "delta": delta}, event="content_block_delta")
    yield _data({"type": "content_block_stop", "index": 0}, event="content_block_stop")
    counted = {"output_tokens": usage.completion_tokens}
    yield _data({"type": "message_delta", "delta": stopped, "usage": counted}, event="message_delta")
    yield _data({"type": "message_stop"}, event="message_stop")


def _data(body: dict[str, Any], *, event: str = "") -> str:
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {json.dumps(body)}\n\n"
