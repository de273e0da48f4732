"""A response's input items: as the client sent them, and as vLLM takes them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from server.errors import ApiError

PARTS = {"output_text": "text", "input_text": "text", "text": "text", "refusal": "refusal"}  # and where their words are


def read_items(given: Any) -> list[dict[str, Any]]:
    """What the client sent as `input`, each item with an id of its own; raises ApiError 400 naming the item."""
    if isinstance(given, str):
        content = [{"type": "input_text", "text": given}]
        return [{"id": _new_id(), "type": "message", "role": "user", "content": content}]
    if not isinstance(given, list) or not given:
        raise ApiError(400, "input: a text, or a list of at least one item", param="input")
    items: list[dict[str, Any]] = []
    taken: set[str] = set()
    for i, item in enumerate(given):
        if not isinstance(item, dict):
            raise ApiError(
                400, f"input[{i}]: an object such as {{'role': 'user', 'content': '…'}}", param=f"input[{i}]"
            )
        if _is_reference(item):
            raise ApiError(
                400,
                f"input[{i}]: references to items are not followed; name the response that the item is of as "
                "`previous_response_id`, or send the item itself",
                param=f"input[{i}]",
            )
        own = item.get("id")
        # two with one id could not be listed page by page
        item = {**item, "id": own if isinstance(own, str) and own and own not in taken else _new_id()}
        taken.add(item["id"])
        if item.get("type") is None:
            item["type"] = "message"
        items.append(item)
    return items


def for_engine(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """vLLM's form of items; raises ApiError 400 where nothing is said in any of them.

    A message of the client's has no id there. Of an assistant's message vLLM reads the first part only, and none that
    is a refusal; so it gets one part with the words of all, and a message without parts is left out.
    """
    left = [_message(item) if item.get("type") == "message" else item for item in items if not _is_empty(item)]
    if not left:
        raise ApiError(400, "input: no item of it has any content", param="input")
    return left


def _is_reference(item: Mapping[str, Any]) -> bool:
    """OpenAI's `item_reference`, which may leave its type out."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and item.keys() <= {"id", "type"})


def _message(item: dict[str, Any]) -> dict[str, Any]:
    content = item.get("content")
    if item.get("role") != "assistant":
        return {"role": item.get("role"), "content": content, "type": "message"}
    if not isinstance(content, list) or (len(content) == 1 and not _is_refusal(content[0])):
        return item
    words = [_words(part) for part in content]
    if any(one is None for one in words):  # the engine says what is wrong with it
        return item
    text = "\n".join(one for one in words if one)
    return {**item, "content": [{"type": "output_text", "text": text, "annotations": []}]}


def _is_empty(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "message" and item.get("role") == "assistant" and item.get("content") == []


def _is_refusal(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "refusal"


def _words(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else None
    words = part.get(PARTS[kind]) if isinstance(kind, str) and kind in PARTS else None
    return words if isinstance(words, str) else None


def _new_id() -> str:
    return f"msg_{uuid.uuid4().hex}"
