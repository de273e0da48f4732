"""Chat data, for `supervised` and `prompt_tuning`: {"messages": […], "tools": […], "parallel_tool_calls": …}."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.training.data.fields import boolean, check_format, check_keys
from adapters.training.data.lines import Line, object_of
from adapters.training.data.messages import Message, messages_of
from adapters.training.data.tools import Tool, tools_of
from adapters.training.errors import DataInvalid
from adapters.training.method import Kind

KEYS = ("messages", "tools", "parallel_tool_calls")


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation whose assistant's turns are learnt, but for those with `weight` 0."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    parallel_tool_calls: bool | None
    line: int


def chat_of(line: Line, kind: Kind = "supervised") -> Chat:
    """Raises DataInvalid: no_assistant, no_weight, last_not_assistant, and what its parts raise."""
    number = line.number
    given = object_of(line)
    check_format(given, kind, line=number)
    if "functions" in given or "function_call" in given:
        raise DataInvalid("legacy_functions", number, "`functions` came before `tools`; write `tools` in its place")
    check_keys(given, KEYS, where="the example", line=number)
    tools = tools_of(given.get("tools"), where="tools", line=number)
    parallel = boolean(given, "parallel_tool_calls", where="the example", line=number)
    messages = messages_of(given.get("messages"), tools, where="messages", line=number, weights=True)
    _check_is_trained(messages, number)
    return Chat(messages, tools, parallel, number)


def is_trained(message: Message) -> bool:
    """Whether the loss is taken over it."""
    return bool(message["role"] == "assistant" and message.get("weight", 1))


def _check_is_trained(messages: tuple[Message, ...], line: int) -> None:
    if is_trained(messages[-1]):
        return
    if not any(message["role"] == "assistant" for message in messages):
        raise DataInvalid("no_assistant", line, "no message is the assistant's; the example must hold an answer")
    if not any(is_trained(message) for message in messages):
        raise DataInvalid("no_weight", line, "every assistant's message has weight 0; at least one must have 1")
    last, role = len(messages) - 1, messages[-1]["role"]
    if role != "assistant":
        raise DataInvalid(
            "last_not_assistant", line, f"messages[{last}] is the {role}'s; the last must be the assistant's"
        )
