"""A request is counted as the engine will render it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.engine.base import Dialect, EngineRefused, Tool
from server.engine.fake import FakeEngine
from server.rendering import answer_tokens, rendered, tokens_of

CALL = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"}
CALLED = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


class Counting(FakeEngine):
    """Remembers what it was asked to count."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = replace(self.facts, control_ids=frozenset({ord("<"), ord(">")}))
        self.counted: list[tuple[str, dict[str, Any]]] = []

    async def count_tokens(self, tool: Tool, body: dict[str, Any]) -> dict[str, Any]:
        self.counted.append((tool, body))
        return await super().count_tokens(tool, body)


@pytest.mark.parametrize(
    ("dialect", "body", "request_"),
    [
        (
            "completions",
            {"prompt": "When?", "n": 2, "add_special_tokens": False},
            ("tokenize", {"prompt": "When?", "add_special_tokens": False}),
        ),
        (
            "chat",
            {"messages": [{"role": "user", "content": "<x>"}], "tools": [1], "chat_template_kwargs": {"a": 1}, "n": 2},
            (
                "tokenize",
                {"messages": [{"role": "user", "content": "<x>"}], "tools": [1], "chat_template_kwargs": {"a": 1}},
            ),
        ),
        (
            "messages",
            {"messages": [{"role": "user", "content": "x"}], "system": "s", "max_tokens": 3, "tools": None},
            ("count_tokens", {"messages": [{"role": "user", "content": "x"}], "system": "s"}),
        ),
        (
            "responses",
            {
                "instructions": "Be kind.",
                "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image"}]},
                    {"type": "reasoning", "summary": []},
                    CALL,
                    CALL,
                    {"type": "function_call_output", "call_id": "1", "output": "42"},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
                    CALL,
                ],
            },
            (
                "tokenize",
                {
                    "messages": [
                        {"role": "system", "content": "Be kind."},
                        {"role": "user", "content": "a"},
                        {"role": "assistant", "tool_calls": [CALLED, CALLED]},
                        {"role": "tool", "tool_call_id": "1", "content": "42"},
                        {"role": "assistant", "content": "b", "tool_calls": [CALLED]},
                    ],
                    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
                },
            ),
        ),
        ("responses", {"input": "a"}, ("tokenize", {"messages": [{"role": "user", "content": "a"}], "tools": None})),
    ],
)
async def test_the_engine_is_asked_for_the_same_prompt(
    dialect: Dialect, body: dict[str, Any], request_: tuple[str, dict[str, Any]]
) -> None:
    engine = Counting()
    answer = await rendered(body, dialect, engine)
    asked_with = {**request_[1], "tools": request_[1].get("tools")} if dialect == "chat" else request_[1]
    assert engine.counted == [(request_[0], asked_with)]
    assert answer is not None
    assert answer.count > 0


async def test_control_tokens_are_told_in_their_order() -> None:
    answer = await tokens_of("a<b>c<", Counting())
    assert answer.count == 6
    assert answer.controls == (ord("<"), ord(">"), ord("<"))
    messages = await rendered({"messages": [{"role": "user", "content": "x"}]}, "messages", Counting())
    assert messages is not None
    assert messages.controls is None


async def test_a_request_that_the_engine_refuses_has_no_length() -> None:
    class Refusing(FakeEngine):
        async def count_tokens(self, tool: Tool, body: dict[str, Any]) -> dict[str, Any]:
            raise EngineRefused("messages: no such role")

    assert await rendered({"messages": [{}]}, "chat", Refusing()) is None


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 512),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 7, "max_tokens": 9}, 9),
        ({"max_output_tokens": 7}, 7),
        ({"max_tokens": None}, 512),
        ({"max_tokens": "7"}, 512),
        ({"max_tokens": True}, 512),
        ({"max_tokens": -1}, 512),
        ({"max_tokens": 1024}, 1024),
        ({"max_tokens": 1025}, 1024),
        ({"max_tokens": 7, "max_completion_tokens": 2048}, 1024),
    ],
)
def test_room_for_the_answer(body: dict[str, Any], tokens: int) -> None:
    assert answer_tokens(body, FakeEngine()) == tokens
    assert answer_tokens({}, FakeEngine(context_tokens=100_000)) == 1024
