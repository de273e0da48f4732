"""The messages of a conversation, as OpenAI documents them for fine-tuning; text only.

https://platform.openai.com/docs/guides/supervised-fine-tuning
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.training.data.fields import check_keys
from adapters.training.data.lines import named, shown
from adapters.training.data.tools import Tool, check_calls
from adapters.training.errors import DataInvalid

Message = dict[str, Any]
MAX_MESSAGES = 1000  # where each turn begins is found by rendering all before it
_KEYS: Mapping[str, frozenset[str]] = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset(
        {"role", "content", "name", "weight", "tool_calls", "reasoning", "reasoning_content"},
    ),
    "tool": frozenset({"role", "content", "name", "tool_call_id"}),
}
_PLAIN = frozenset({"system", "developer", "user", "assistant"})
# what clients' libraries write into a message that has none of it
_EMPTY_ALLOWED = frozenset(
    {"refusal", "annotations", "audio", "function_call", "tool_calls", "name", "tool_call_id", "weight"}
    | {"reasoning", "reasoning_content"}
)


def messages_of(value: object, tools: tuple[Tool, ...], *, where: str, line: int, weights: bool) -> tuple[Message, ...]:
    """A conversation; keys without a value are left out, a text in one part becomes a string.

    weights: assistant's messages may have `weight`. Raises DataInvalid: missing_messages, empty_messages,
    too_many_messages, unknown_role, unknown_key, legacy_functions, wrong_type, not_text, empty_assistant, bad_weight,
    first_assistant, tool_without_call, and of tool calls.
    """
    if value is None:
        raise DataInvalid(
            "missing_messages", line, f'there is no `{where}`; write "messages": [{{"role": "user", …}}, …]'
        )
    if not isinstance(value, list):
        raise DataInvalid("wrong_type", line, f"{where} is {named(value)}; it must be an array of messages")
    if not value:
        raise DataInvalid("empty_messages", line, f"{where} is empty; it must hold at least one message")
    if len(value) > MAX_MESSAGES:
        raise DataInvalid(
            "too_many_messages", line, f"{where} has {len(value)} messages; split it, {MAX_MESSAGES} are the most"
        )
    functions = frozenset(tool["function"]["name"] for tool in tools)
    calls: set[str] = set()
    found = []
    for i, one in enumerate(value):
        if _is_plain(one) and (i > 0 or one["role"] != "assistant"):
            found.append(one)
            continue
        place = f"{where}[{i}]"
        message = _message(one, functions, where=place, line=line, weights=weights)
        if i == 0 and message["role"] == "assistant":
            raise DataInvalid(
                "first_assistant", line, f"{place} is the assistant's; something to answer must stand before it"
            )
        _check_answer(message, calls, where=place, line=line)
        calls.update(call["id"] for call in message.get("tool_calls", ()))
        found.append(message)
    return tuple(found)


def answer_of(value: object, tools: tuple[Tool, ...], *, where: str, line: int) -> Message:
    """One message of the assistant's."""
    functions = frozenset(tool["function"]["name"] for tool in tools)
    return _message(value, functions, where=where, line=line, weights=False)


def _is_plain(value: Any) -> bool:
    """Whether a message is a role and a string, and right: most are, and are looked at no further."""
    if not isinstance(value, dict) or len(value) != 2:
        return False
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        return False
    return role in _PLAIN and (role != "assistant" or bool(content.strip()))


def _message(value: object, functions: frozenset[str], *, where: str, line: int, weights: bool) -> Message:
    if not isinstance(value, dict):
        raise DataInvalid("wrong_type", line, f'{where} is {named(value)}; it must be {{"role": …, "content": …}}')
    role = value.get("role")
    if not isinstance(role, str) or role not in _KEYS:
        hint = '; answers of functions have the role "tool"' if role == "function" else ""
        raise DataInvalid("unknown_role", line, f"{where}.role is {shown(role)}; known: {', '.join(_KEYS)}{hint}")
    if value.get("function_call") is not None:
        raise DataInvalid(
            "legacy_functions", line, f"{where}.function_call is the form before tools; write `tool_calls` in its place"
        )
    message = {key: one for key, one in value.items() if not _is_left_out(key, one)}
    known = _KEYS[role] if weights else _KEYS[role] - {"weight"}
    check_keys(message, known, where=where, line=line)
    for key in ("name", "reasoning", "reasoning_content"):
        if message.get(key) is not None and not isinstance(message[key], str):
            raise DataInvalid("wrong_type", line, f"{where}.{key} is {named(message[key])}; it must be a string")
    message["content"] = _content(message.get("content"), role, where=f"{where}.content", line=line)
    if role == "assistant":
        _check_assistant(message, functions, where=where, line=line)
    return message


def _is_left_out(key: str, value: object) -> bool:
    return key in _EMPTY_ALLOWED and (value is None or (key != "weight" and not value))


def _content(value: object, role: str, *, where: str, line: int) -> str | list[dict[str, Any]] | None:
    if isinstance(value, str) or (value is None and role == "assistant"):
        return value
    if not isinstance(value, list) or not value:
        raise DataInvalid(
            "wrong_type", line, f"{where} is {named(value)}; it must be a string, or an array of text parts"
        )
    for i, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(kind, str) and kind != "text":
            raise DataInvalid("not_text", line, f"{where}[{i}] is of type {shown(kind)}; only text is trained here")
        if not isinstance(part, dict) or kind != "text" or not isinstance(part.get("text"), str):
            raise DataInvalid("wrong_type", line, f'{where}[{i}] must be {{"type": "text", "text": …}}')
        check_keys(part, ("type", "text"), where=f"{where}[{i}]", line=line)
    return value[0]["text"] if len(value) == 1 else value


def _check_assistant(message: Message, functions: frozenset[str], *, where: str, line: int) -> None:
    if "tool_calls" in message:
        check_calls(message["tool_calls"], functions, where=f"{where}.tool_calls", line=line)
    elif not _says_something(message["content"]):
        raise DataInvalid(
            "empty_assistant",
            line,
            f"{where} has neither content nor tool_calls; write the answer to learn",
        )
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise DataInvalid("bad_weight", line, f"{where}.weight is {shown(weight)}; it must be 0 (not trained) or 1")


def _says_something(content: str | list[dict[str, Any]] | None) -> bool:
    parts = [content or ""] if not isinstance(content, list) else [part["text"] for part in content]
    return any(part.strip() for part in parts)


def _check_answer(message: Message, calls: set[str], *, where: str, line: int) -> None:
    """A tool's message answers a call that was made before it."""
    if message["role"] != "tool":
        return
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str) or call_id not in calls:
        known = (
            f"earlier calls: {shown(', '.join(sorted(calls)))}"
            if calls
            else "no assistant's message before it calls one"
        )
        raise DataInvalid("tool_without_call", line, f"{where}.tool_call_id is {shown(call_id)}; {known}")
