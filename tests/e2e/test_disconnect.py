"""A client that goes away stops its generation within half a second, whatever it asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

LONG: dict[str, Any] = {"max_tokens": 1500, "ignore_eos": True, "temperature": 1.0}
MESSAGES = [{"role": "user", "content": "Tell me a very long story."}]
STOP_SECONDS = 0.5

# Anthropic's dialect cannot say that the end be ignored; a text of at least so many letters does not end either
ENDLESS = {"type": "array", "items": {"type": "integer"}, "minItems": 2000}

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"model": "demo", "messages": MESSAGES, **LONG}),
    "chat, adapter": ("/v1/chat/completions", {"model": "pirate", "messages": MESSAGES, **LONG}),
    "completions": ("/v1/completions", {"model": "demo", "prompt": "Once upon a time", **LONG}),
    "chat, n": ("/v1/chat/completions", {"model": "demo", "messages": MESSAGES, "n": 3, **LONG}),
    "messages": (
        "/v1/messages",
        {
            "model": "demo",
            "messages": MESSAGES,
            "max_tokens": 1500,
            "output_config": {"format": {"type": "json_schema", "schema": ENDLESS}},
        },
    ),
    "responses": (
        "/v1/responses",
        {"model": "demo", "input": "Tell me.", "max_output_tokens": 1500, "ignore_eos": True},
    ),
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", REQUESTS)
async def test_it_stops(kind: str, stream: bool, server: str, metric: Callable[..., float]) -> None:
    path, body = REQUESTS[kind]
    async with httpx2.AsyncClient(base_url=server, timeout=60) as leaving:
        asking = asyncio.create_task(_ask(leaving, path, {**body, "stream": stream}))
        before = metric("vllm:generation_tokens_total")
        await _until(lambda: metric("vllm:generation_tokens_total") >= before + 8 or asking.done())
        assert not asking.done(), asking.result()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    left = time.monotonic()
    await _until(lambda: metric("manyhats_requests_running") == 0)
    await asyncio.sleep(max(0.0, left + STOP_SECONDS - time.monotonic()))
    tokens = metric("vllm:generation_tokens_total")
    await asyncio.sleep(0.2)  # twenty tokens' time
    assert metric("vllm:generation_tokens_total") == tokens
    assert metric("vllm:num_requests_running") == 0


async def _ask(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> str:
    async with client.stream("POST", path, json=body) as answer:
        return (await answer.aread()).decode()


async def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)
