"""What an adapter does to one answer, measured once after its first load and kept as a fact, never as a refusal.

An adapter whose module names do not match is accepted by many servers and changes nothing; the number shows that.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from adapters.adapter import Version
from adapters.registry import Registry
from server.engine.base import Call, Engine, EngineAdapter, EngineError
from server.threads import run_in

logger = logging.getLogger(__name__)

FACT = "logprob_difference"
PROMPT = "The"
N_TOKENS = 16


class FirstLoad:
    """Compares an adapter with its base over the base's own greedy answer."""

    def __init__(self, engine: Engine, registry: Registry) -> None:
        self._engine = engine
        self._registry = registry
        self._answer: list[int] = []  # the prompt and the base's greedy answer, as token ids
        self._base: list[float] = []

    async def measure(self, version: Version, adapter: EngineAdapter) -> None:
        """Record the mean absolute difference of the answer's log-probabilities, in nats per token."""
        if FACT in version.details:
            return
        try:
            if not self._base:
                await self._measure_base()
            own = await self._logprobs(adapter)
        except EngineError as error:
            logger.warning("the effect of %s could not be measured: %s", version.id, error)
            return
        if len(own) != len(self._base) or not own:
            return  # an engine that gives no log-probabilities
        difference = sum(abs(a - b) for a, b in zip(own, self._base, strict=True)) / len(own)
        await run_in(None, self._registry.record, version, {FACT: round(difference, 6)})

    async def _measure_base(self) -> None:
        counted = await self._engine.count_tokens("tokenize", {"prompt": PROMPT})
        body = {"prompt": counted["tokens"], "max_tokens": N_TOKENS, "temperature": 0, "ignore_eos": True}
        choice = await self._ask({**body, "return_token_ids": True}, None)
        self._answer = [*counted["tokens"], *(choice.get("token_ids") or [])]
        self._base = await self._logprobs(None)

    async def _logprobs(self, adapter: EngineAdapter | None) -> list[float]:
        body = {"prompt": self._answer, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        choice = await self._ask(body, adapter)
        told = choice.get("prompt_logprobs") or []
        # the first token has nothing before it, so no probability
        return [float(place[str(token)]["logprob"]) for token, place in zip(self._answer, told, strict=False) if place]

    async def _ask(self, body: dict[str, Any], adapter: EngineAdapter | None) -> dict[str, Any]:
        call = Call(
            dialect="completions", body=body, public_name="measure", request_id=uuid.uuid4().hex, adapter=adapter
        )
        answer = await self._engine.answer(call)
        assert answer.body is not None
        choice: dict[str, Any] = answer.body["choices"][0]
        return choice
