"""A request's length in tokens: its prompt as the engine renders it (template, tools, tokenizer), and its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.engine.base import Dialect, Engine, EngineRefused
from server.turns import TEXT_PARTS

TEMPLATE_FIELDS = ("chat_template_kwargs", "add_generation_prompt", "continue_final_message", "add_special_tokens")
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A prompt in tokens."""

    count: int
    controls: tuple[int, ...] | None  # the ids of its control tokens, in their order; None where only a count is known


async def rendered(body: Mapping[str, Any], dialect: Dialect, engine: Engine) -> Rendered | None:
    """The prompt of a request; None for one that the engine refuses, which says why when it is asked to answer."""
    try:
        if dialect == "messages":
            kept = {key: body[key] for key in ("messages", "system", "tools", "thinking") if body.get(key) is not None}
            return Rendered(count=int((await engine.count_tokens("count_tokens", kept))["input_tokens"]), controls=None)
        return await _tokenized(_request(body, dialect), engine)
    except EngineRefused:
        return None


async def tokens_of(text: str, engine: Engine) -> Rendered:
    """A text by itself."""
    return await _tokenized({"prompt": text, "add_special_tokens": False}, engine)


def answer_tokens(body: Mapping[str, Any], engine: Engine) -> int:
    """What is kept free for the answer: what the request says and at most half of the context, else up to 1,024 tokens.

    Clients send the most that they would take, not what they expect; the engine ends an answer where its context does.
    """
    given = [body[name] for name in LIMITS if type(body.get(name)) is int and body[name] > 0]
    context = engine.facts.context_tokens
    return min(max(given), context // 2) if given else min(1024, context // 4)


async def _tokenized(request: dict[str, Any], engine: Engine) -> Rendered:
    counted = await engine.count_tokens("tokenize", request)
    controls = engine.facts.control_ids
    return Rendered(count=int(counted["count"]), controls=tuple(one for one in counted["tokens"] if one in controls))


def _request(body: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    given = {key: body[key] for key in TEMPLATE_FIELDS if body.get(key) is not None}
    if dialect == "completions":
        return {"prompt": body["prompt"]} | {key: given[key] for key in given if key == "add_special_tokens"}
    if dialect == "responses":
        return {"messages": _messages(body), "tools": _functions(body.get("tools"))}
    return {**given, "messages": body["messages"], "tools": body.get("tools")}


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A response's instructions and items as chat messages, the way that vLLM makes them."""
    messages: list[dict[str, Any]] = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        kind = item.get("type") or "message"
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if messages and messages[-1]["role"] == "assistant":
                messages[-1].setdefault("tool_calls", []).append(call)
            else:
                messages.append({"role": "assistant", "tool_calls": [call]})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": _flat(item.get("output"))})
        elif kind == "message":
            messages.append({"role": item.get("role"), "content": _flat(item.get("content"))})
    return messages


def _flat(content: Any) -> str:
    """The text of a content; what a picture takes is not known here."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return json.dumps(content, ensure_ascii=False)
    return "\n".join(
        part["text"]
        for part in content
        if isinstance(part, dict) and part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str)
    )


def _functions(tools: Any) -> list[dict[str, Any]] | None:
    """A response's tools in the form that templates see."""
    functions = [
        {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
        for tool in (tools if isinstance(tools, list) else [])
        if isinstance(tool, dict) and tool.get("type") == "function"
    ]
    return functions or None
