"""Preference data, for `dpo`: {"input": {"messages": […], "tools": […]}, "preferred_output": [answer],
"non_preferred_output": [answer]}.

https://platform.openai.com/docs/guides/direct-preference-optimization
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.training.data.fields import boolean, check_format, check_keys
from adapters.training.data.lines import Line, named, object_of
from adapters.training.data.messages import Message, answer_of, messages_of
from adapters.training.data.tools import Tool, tools_of
from adapters.training.errors import DataInvalid

KEYS = ("input", "preferred_output", "non_preferred_output")


@dataclass(frozen=True, slots=True)
class Preference:
    """A conversation and two answers to it; each answer is a tuple of one message."""

    prompt: tuple[Message, ...]
    tools: tuple[Tool, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    line: int


def preference_of(line: Line) -> Preference:
    """Raises DataInvalid: missing_input, missing_output, bad_output, equal_outputs, last_assistant, and of messages."""
    number = line.number
    given = object_of(line)
    check_format(given, "dpo", line=number)
    check_keys(given, KEYS, where="the example", line=number)
    asked = given.get("input")
    if not isinstance(asked, dict):
        raise DataInvalid(
            "missing_input",
            number,
            f'`input` is {named(asked)}; write "input": {{"messages": [{{"role": "user", …}}]}}',
        )
    check_keys(asked, ("messages", "tools", "parallel_tool_calls"), where="input", line=number)
    tools = tools_of(asked.get("tools"), where="input.tools", line=number)
    boolean(asked, "parallel_tool_calls", where="input", line=number)
    prompt = messages_of(asked.get("messages"), tools, where="input.messages", line=number, weights=False)
    if prompt[-1]["role"] == "assistant":
        raise DataInvalid(
            "last_assistant",
            number,
            "input.messages ends with the assistant's message; its answers stand in the outputs",
        )
    chosen = _output(given, "preferred_output", tools, number)
    rejected = _output(given, "non_preferred_output", tools, number)
    if chosen == rejected:
        raise DataInvalid(
            "equal_outputs", number, "both outputs are the same; nothing is preferred, so leave the line out"
        )
    return Preference(prompt, tools, (chosen,), (rejected,), number)


def _output(given: Mapping[str, Any], key: str, tools: tuple[Tool, ...], line: int) -> Message:
    value = given.get(key)
    if value is None:
        raise DataInvalid("missing_output", line, f'there is no `{key}`; write [{{"role": "assistant", "content": …}}]')
    if not isinstance(value, list) or len(value) != 1:
        what = named(value) if not isinstance(value, list) else f"an array of {len(value)}"
        raise DataInvalid("bad_output", line, f"{key} is {what}; it must be an array of one message of the assistant's")
    message = answer_of(value[0], tools, where=f"{key}[0]", line=line)
    if message["role"] != "assistant":
        raise DataInvalid("bad_output", line, f"{key}[0] is the {message['role']}'s; it must be the assistant's")
    return message
