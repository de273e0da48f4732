"""One view of what was said, in every dialect's form."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from server.engine.base import Dialect
from server.turns import turns_of, with_text

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def _text(*texts: str, kind: str = "text") -> list[dict[str, Any]]:
    return [{"type": kind, "text": text} for text in texts]


@pytest.mark.parametrize(
    ("dialect", "body", "said"),
    [
        ("completions", {"prompt": "When?"}, [("user", "When?")]),
        ("completions", {"prompt": ["When?"]}, []),
        ("responses", {"input": "When?"}, [("user", "When?")]),
        ("responses", {"input": " "}, []),
        (
            "responses",
            {
                "input": [
                    {"role": "user", "content": _text("When?", kind="input_text"), "type": "message"},
                    {"type": "reasoning", "summary": []},
                    {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
                    {"type": "function_call_output", "call_id": "1", "output": "42"},
                    {"role": "assistant", "content": _text("Now.", kind="output_text"), "type": "message"},
                ]
            },
            [("user", "When?"), ("assistant", "Now.")],
        ),
        (
            "chat",
            {
                "messages": [
                    {"role": "user", "content": [PICTURE, *_text("What is", "this?")]},
                    {"role": "assistant", "content": None, "tool_calls": []},
                    {"role": "tool", "content": "42", "tool_call_id": "1"},
                    {"role": "user", "content": [PICTURE]},
                ]
            },
            [("user", "What is\nthis?"), ("tool", "42")],
        ),
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": "When?"},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "42"}]},
                ]
            },
            [("user", "When?")],
        ),
        ("chat", {}, []),
        ("chat", {"messages": "When?"}, [("user", "When?")]),
        ("chat", {"messages": [1, None, {"role": 3}, {"content": "x"}, {"role": "user", "content": [1, {}]}]}, []),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, []),
    ],
)
def test_what_was_said(dialect: Dialect, body: dict[str, Any], said: list[tuple[str, str]]) -> None:
    assert [(turn.role, turn.text) for turn in turns_of(body, dialect)] == said


@pytest.mark.parametrize(
    ("dialect", "body", "written"),
    [
        ("completions", {"prompt": "When?", "n": 1}, {"prompt": "<When?>", "n": 1}),
        ("responses", {"input": "When?"}, {"input": "<When?>"}),
        (
            "chat",
            {"messages": [{"role": "user", "content": "When?", "name": "ana"}, {"role": "tool", "content": "4"}]},
            {"messages": [{"role": "user", "content": "<When?>", "name": "ana"}, {"role": "tool", "content": "4"}]},
        ),
        (
            "messages",
            {"messages": [{"role": "user", "content": [PICTURE, *_text(" ", "What is", "this?")]}]},
            {"messages": [{"role": "user", "content": [PICTURE, *_text(" ", "<What is>", "this?")]}]},
        ),
    ],
)
def test_writing_into_a_turn_changes_nothing_else(
    dialect: Dialect, body: dict[str, Any], written: dict[str, Any]
) -> None:
    before = copy.deepcopy(body)
    turn = next(turn for turn in turns_of(body, dialect) if turn.role == "user")
    assert with_text(body, dialect, turn, lambda words: f"<{words}>") == written
    assert body == before
