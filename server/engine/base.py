"""The engine port: whole OpenAI requests in, whole answers or streams of frames out.

Tools, structured outputs, logprobs, reasoning and usage belong to the engine, so the port speaks whole requests and not
tokens. `vllm_engine.py` is the real one; `fake.py` answers from a script and is selectable with `--engine fake`.

EngineError
├── EngineRefused       the request cannot be answered as it is asked; carries status, type and parameter
├── EngineUnavailable   the engine is starting, stopping or dead
└── LoadFailed          the engine did not take an adapter's weights
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Dialect = Literal["chat", "completions", "responses", "messages"]
Tool = Literal["tokenize", "detokenize", "count_tokens"]
AdapterKind = Literal["lora", "soft_prompt"]


class EngineError(Exception):
    """Something that the engine, and not our own code, could not do."""


class EngineRefused(EngineError):  # reads as what happened, like the other errors here
    """The engine says no to this request; `status` is HTTP's, `param` the field at fault."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "invalid_request_error", param: str | None = None
    ):
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param


class EngineUnavailable(EngineError):  # as above
    """No engine answers now; the supervisor is bringing one up."""


class LoadFailed(EngineError):  # as above
    """The engine refused weights that the preflight had let through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAdapter:
    """One immutable adapter version as the engine sees it."""

    engine_name: str  # "<adapter>@<64 hex>": vLLM keys its prefix cache and batches by this name
    lora_id: int  # never given out twice, not even after a restart
    path: Path  # a folder that does not change while the version is loaded
    kind: AdapterKind = "lora"  # a soft prompt stands before the rendered prompt and takes no slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request on its way to the engine."""

    dialect: Dialect
    body: dict[str, Any]  # as the client sent it, but for what the server took out or put in
    public_name: str  # what the answer's `model` says: an engine name has many public names
    request_id: str
    adapter: EngineAdapter | None = None  # None is the bare base model
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer, counted by the served tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Either a whole body or a stream of server-sent-event frames, with the usage once it has ended."""

    body: dict[str, Any] | None
    frames: AsyncGenerator[str, None] | None  # closing it aborts the generation
    usage: Callable[[], Usage]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What is known of the engine once it runs."""

    context_tokens: int
    vocabulary: int
    dtype: str
    device: str
    version: str
    has_system_role: bool  # whether the chat template takes a system message
    control_strings: tuple[str, ...] = ()  # special and added tokens, and what the chat template puts around turns
    control_ids: frozenset[int] = frozenset()  # the ids of those tokens
    details: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """A running base model that takes adapters."""

    facts: EngineFacts

    async def answer(self, call: Call) -> Answer:
        """Answer one request in its own dialect.

        Raises EngineRefused for what the client can mend, EngineUnavailable when the engine is dead. Errors after
        the first frame of a stream are frames themselves, in the dialect's shape.
        """
        ...

    async def load(self, adapter: EngineAdapter) -> None:
        """Put a version's weights into the engine's memory; raises LoadFailed."""
        ...

    async def unload(self, adapter: EngineAdapter) -> None:
        """Take a version that no request uses out of the engine's memory."""
        ...

    async def count_tokens(self, tool: Tool, body: dict[str, Any]) -> dict[str, Any]:
        """Answer /tokenize, /detokenize or /v1/messages/count_tokens; raises EngineRefused."""
        ...

    def alive(self) -> bool:
        """Whether requests can be answered now; cheap, no I/O."""
        ...

    def metrics(self, names: Collection[str] | None = None) -> bytes:
        """The engine's own metrics in Prometheus' text format; only these series where named, which is much cheaper."""
        ...

    async def close(self) -> None:
        """Stop the engine and its processes."""
        ...
