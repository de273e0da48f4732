"""What the `model` of a request means (base, adapter version, assistant), and the body with the assistant's part.

The name is resolved once, here; from then on the request keeps the version that it started with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.registry import Registry, Version
from server.auth import may_use
from server.engine.base import Dialect, Engine
from server.errors import ApiError, model_not_found
from server.rendering import answer_tokens
from server.storage.assistant import Assistant
from server.storage.assistants import Assistants
from server.storage.callers import Caller

DEFAULTS = ("temperature", "top_p", "response_format")  # what an assistant may preset and a request may override


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One request, resolved."""

    public_name: str  # as the client wrote it
    version: Version | None  # None is the bare base model
    assistant: Assistant | None

    @property
    def label(self) -> str:
        """The adapter's name for metrics and logs, "" for the base: few and known, never what a client made up."""
        return self.version.adapter if self.version else ""

    @property
    def n_virtual_tokens(self) -> int:
        """What a soft prompt takes of the context before any text; 0 where there is none."""
        return self.version.n_virtual_tokens if self.version else 0


class Catalogue:
    """Every name that `model` may take."""

    def __init__(
        self, *, base_name: str, registry: Registry, assistants: Assistants, embedders: Collection[str] = ()
    ) -> None:
        self.base_name = base_name
        self._embedders = embedders
        self._registry = registry
        self._assistants = assistants

    def plan(self, body: Mapping[str, Any], caller: Caller) -> Plan:
        """What this body's `model` means for this caller.

        Raises ApiError 400 for a missing name and for the embedder, 404 for one unknown or not the caller's, and the
        registry's errors.
        """
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise ApiError(400, "model: name a model; GET /v1/models lists them", param="model", code="model_required")
        assistant = self._assistants.find(name)
        if not may_use(caller, name, assistant.name if assistant else name):  # a right to its name is one to its id
            raise model_not_found(name)
        if name in self._embedders:
            raise ApiError(400, f"{name!r} generates no text; it answers /v1/embeddings", param="model")
        served = assistant.model if assistant else name
        if served == self.base_name:
            return Plan(public_name=name, version=None, assistant=assistant)
        version = self._registry.resolve(served, sticky=sticky_key(body, caller))
        return Plan(public_name=name, version=version, assistant=assistant)


def sticky_key(body: Mapping[str, Any], caller: Caller) -> str:
    """What keeps one user on one version of a canary: the first of four fields, else key and first user message."""
    metadata = body.get("metadata")
    user_id = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    for value in (body.get("prompt_cache_key"), body.get("safety_identifier"), body.get("user"), user_id):
        if isinstance(value, str) and value:
            return value
    return f"{caller.key_id}:{_first_user_text(body)}"


async def dress(body: dict[str, Any], plan: Plan, dialect: Dialect, engine: Engine) -> dict[str, Any]:
    """The body with the assistant's instructions, examples and defaults in it; as it came where there is none.

    Raises ApiError where the dialect has no place for what the assistant needs.
    """
    assistant = plan.assistant
    if assistant is None:
        return body
    body = dict(body)
    for name in DEFAULTS:
        value = getattr(assistant, name, None)
        if name == "response_format" and (dialect != "chat" or value == "auto"):  # OpenAI's "auto" is no wish at all
            continue
        if value is not None and body.get(name) is None:
            body[name] = value
    instructions = assistant.instructions or ""
    examples = list(assistant.examples)
    if dialect == "completions":
        if instructions or examples:
            raise ApiError(
                400,
                f"{plan.public_name!r} is an assistant with instructions, and a bare prompt has no place for them; "
                "use /v1/chat/completions",
                param="model",
            )
        return body
    placed = _PLACE[dialect](body, instructions, examples, engine)
    while examples and not await _fits(placed, plan, dialect, engine):
        examples.pop()  # few-shot turns are the first to go; nothing of the client's is ever cut
        placed = _PLACE[dialect](body, instructions, examples, engine)
    return placed


def _in_chat(body: dict[str, Any], instructions: str, examples: Sequence[Any], engine: Engine) -> dict[str, Any]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body  # the engine says what is wrong with it
    lead = 0
    while lead < len(messages) and _role(messages[lead]) in ("system", "developer"):
        lead += 1
    system = _joined([instructions, *(_text(message.get("content")) for message in messages[:lead])])
    return {**body, "messages": _turns(system, examples, messages[lead:], engine)}


def _in_messages(body: dict[str, Any], instructions: str, examples: Sequence[Any], engine: Engine) -> dict[str, Any]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    system = _joined([instructions, _text(body.get("system"))])
    if engine.facts.has_system_role:
        return {**body, "system": system, "messages": [*_example_turns(examples), *messages]}
    without = {key: value for key, value in body.items() if key != "system"}
    return {**without, "messages": _turns(system, examples, messages, engine)}


def _in_responses(body: dict[str, Any], instructions: str, examples: Sequence[Any], engine: Engine) -> dict[str, Any]:
    given = body.get("input")
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(turns, list):
        return body
    lead = 0
    while lead < len(turns) and _role(turns[lead]) in ("system", "developer"):
        lead += 1
    own = body.get("instructions")
    leading = [_text(turn.get("content")) for turn in turns[:lead]]
    system = _joined([instructions, own if isinstance(own, str) else "", *leading])
    if engine.facts.has_system_role:
        return {**body, "instructions": system or None, "input": [*_example_turns(examples), *turns[lead:]]}
    return {**body, "instructions": None, "input": _turns(system, examples, turns[lead:], engine)}


_PLACE = {"chat": _in_chat, "messages": _in_messages, "responses": _in_responses}


def _turns(system: str, examples: Sequence[Any], messages: list[Any], engine: Engine) -> list[Any]:
    turns = [*_example_turns(examples), *messages]
    if not system:
        return turns
    if engine.facts.has_system_role:
        return [{"role": "system", "content": system}, *turns]
    for i, turn in enumerate(turns):
        if _role(turn) == "user":  # a template without the role: the first user turn opens with the text
            return [*turns[:i], {**turn, "content": _opened(system, turn.get("content"))}, *turns[i + 1 :]]
    return [{"role": "user", "content": system}, *turns]


def _opened(system: str, content: Any) -> Any:
    if isinstance(content, list):
        kind = "input_text" if any(isinstance(p, dict) and p.get("type") == "input_text" for p in content) else "text"
        return [{"type": kind, "text": f"{system}\n\n"}, *content]
    return f"{system}\n\n{content}"


def _example_turns(examples: Sequence[Any]) -> list[dict[str, str]]:
    turns = []
    for example in examples:
        turns += [
            {"role": "user", "content": example["user"]},
            {"role": "assistant", "content": example["assistant"]},
        ]
    return turns


async def _fits(body: Mapping[str, Any], plan: Plan, dialect: Dialect, engine: Engine) -> bool:
    turns = body.get("input") if dialect == "responses" else body.get("messages")
    system = body.get("instructions") if dialect == "responses" else body.get("system")
    flat = [
        {"role": _role(turn) or "user", "content": _text(turn.get("content"))}
        for turn in turns or []
        if isinstance(turn, dict)
    ]
    if isinstance(system, str) and system:
        flat.insert(0, {"role": "system", "content": system})
    counted = await engine.count_tokens("tokenize", {"messages": flat})
    needed = int(counted["count"]) + plan.n_virtual_tokens + answer_tokens(body, engine)
    return needed <= engine.facts.context_tokens


def _first_user_text(body: Mapping[str, Any]) -> str:
    turns = body.get("messages") or body.get("input") or body.get("prompt") or ""
    if isinstance(turns, str):
        return turns
    for turn in turns if isinstance(turns, list) else []:
        if isinstance(turn, str):
            return turn
        if _role(turn) == "user":
            return _text(turn.get("content"))
    return ""


def _role(turn: Any) -> str:
    role = turn.get("role") if isinstance(turn, dict) else None
    return role if isinstance(role, str) else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def _joined(texts: Sequence[str]) -> str:
    return "\n\n".join(text for text in texts if text)
