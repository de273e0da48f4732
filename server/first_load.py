"""What an adapter does to one answer, measured once after its first load and kept as a fact, never as a refusal.

An adapter whose module names do not match is accepted by many servers and changes nothing; the number shows that.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from adapters.adapter import Version
from adapters.registry import Registry
from server.engine.base import Call, Engine, EngineAdapter, EngineError
from server.threads import run_in

logger = logging.getLogger(__name__)

FACT = "logprob_difference"
PROMPT = "The"
N_TOKENS = 16
N_TOP = 20  # vLLM's limit

Place = tuple[str, dict[str, float]]  # the token that was taken, and the likeliest ones with their log-probabilities


class FirstLoad:
    """Compares an adapter with its base over one greedy answer."""

    def __init__(self, engine: Engine, registry: Registry) -> None:
        self._engine = engine
        self._registry = registry
        self._base: list[Place] = []

    async def measure(self, version: Version, adapter: EngineAdapter) -> None:
        """Record the mean absolute difference of the base's own tokens' log-probabilities, in nats per token."""
        if FACT in version.details:
            return
        try:
            if not self._base:
                self._base = await self._answer(None)
            own = await self._answer(adapter)
        except EngineError as error:
            logger.warning("the effect of %s could not be measured: %s", version.id, error)
            return
        if not self._base or not own:
            return  # an engine that gives no log-probabilities
        await run_in(None, self._registry.record, version, {FACT: round(difference(self._base, own), 6)})

    async def _answer(self, adapter: EngineAdapter | None) -> list[Place]:
        # not the prompt's log-probabilities: with adapters in the batch vLLM dies of those
        body = {
            "prompt": PROMPT,
            "max_tokens": N_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "logprobs": N_TOP,
            "return_tokens_as_token_ids": True,  # two tokens may have the same text
        }
        call = Call(
            dialect="completions", body=body, public_name="measure", request_id=uuid.uuid4().hex, adapter=adapter
        )
        answer = await self._engine.answer(call)
        assert answer.body is not None
        told: dict[str, Any] = answer.body["choices"][0].get("logprobs") or {}
        return list(zip(told.get("tokens") or [], told.get("top_logprobs") or [], strict=False))


def difference(base: Sequence[Place], own: Sequence[Place]) -> float:
    """Mean |log p(t) - log q(t)| of the base's tokens t, as far as both answers have the same words before.

    Where t is not among the adapter's likeliest, the least of those stands for it: the true difference is larger.
    """
    found = []
    for (token, likely), (taken, others) in zip(base, own, strict=False):
        found.append(abs(likely[token] - others.get(token, min(others.values()))))
        if taken != token:
            break
    return sum(found) / len(found)
