from __future__ import annotations

from typing import Any

import pytest

from tests.adapters.training.data.conftest import chat_from
from tests.adapters.training.data.made_data import assistant, chat


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Olá", "Olá"),
        ([{"type": "text", "text": "Olá"}], "Olá"),  # one part is a string in another dress
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],) * 2,
    ],
)
def test_content_is_a_string_or_parts(content: Any, expected: Any) -> None:
    read = chat_from(chat({"role": "user", "content": content}, assistant("b")))
    assert read.messages[0]["content"] == expected


def test_an_answer_of_several_calls_may_be_answered_one_by_one() -> None:
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}} for name in ("c1", "c2")]
    told = [
        {"role": "tool", "tool_call_id": name, "content": [{"type": "text", "text": name}]} for name in ("c2", "c1")
    ]
    read = chat_from(
        chat({"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": calls}, *told, assistant("b"))
    )
    assert [message.get("content") for message in read.messages] == ["a", None, "c2", "c1", "b"]
