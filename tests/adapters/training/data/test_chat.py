from __future__ import annotations

import pytest

from adapters.training.data.chat import is_trained
from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.conftest import chat_from
from tests.adapters.training.data.made_data import assistant, chat, user


def test_a_conversation_is_read_as_it_was_written() -> None:
    row = made.with_tools()
    read = chat_from(row, line=9)
    assert [message["role"] for message in read.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert read.messages[2]["tool_calls"] == row["messages"][2]["tool_calls"]
    assert read.tools == (made.FREE_HOURS,)
    assert (read.parallel_tool_calls, read.line) == (False, 9)


def test_weight_says_what_is_learnt() -> None:
    assert [is_trained(message) for message in chat_from(made.conversation()).messages] == [False, False, False, True]


@pytest.mark.parametrize("null", ["tools", "parallel_tool_calls"])
def test_null_is_as_nothing(null: str) -> None:
    assert chat_from(chat(user("a"), assistant("b"), **{null: None})) == chat_from(chat(user("a"), assistant("b")))


def test_what_a_library_dumps_of_an_answer_is_taken() -> None:
    dumped = assistant("b", refusal=None, annotations=[], audio=None, function_call=None, tool_calls=None, weight=None)
    assert chat_from(chat(user("a"), dumped)) == chat_from(chat(user("a"), assistant("b")))


def test_conversations_that_are_unusual_but_right() -> None:
    greeting = chat({"role": "system", "content": "Cumprimente."}, assistant("Bom dia!"))
    twice = chat(user("a"), assistant("b"), assistant("c"))
    empty = chat(user(""), assistant("Oi?"))
    developer = chat({"role": "developer", "content": "x", "name": "n"}, user("a"), assistant("b", reasoning="c"))
    for row in (greeting, twice, empty, developer):
        assert len(chat_from(row).messages) == len(row["messages"])
