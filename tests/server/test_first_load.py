"""The first load's fact: how far an adapter moves one answer, in nats per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.engine.base import Answer, Call, EngineUnavailable, Usage
from server.engine.fake import FakeEngine
from server.first_load import FACT, FirstLoad
from server.services import Services


class ScoringEngine(FakeEngine):
    """Gives every token of a prompt a log-probability: -1 under the base, -1.5 under an adapter."""

    async def answer(self, call: Call) -> Answer:
        if self.dead:
            raise EngineUnavailable("down")
        prompt = call.body["prompt"]
        score = -1.5 if call.adapter else -1.0
        told: list[Any] = [None, *({str(token): {"logprob": score}} for token in prompt[1:])]
        choice = {"token_ids": [7, 8, 9], "prompt_logprobs": told if "prompt_logprobs" in call.body else None}
        return Answer(body={"choices": [choice]}, frames=None, usage=Usage)


async def test_the_mean_difference_is_recorded_once(services: Services, add: Callable[..., Any]) -> None:
    engine = ScoringEngine()
    version = add("legal")
    first_load = FirstLoad(engine, services.registry)
    async with services.slots.hold(version) as adapter:
        await first_load.measure(version, adapter)
    recorded = services.registry.resolve("legal")
    assert recorded.details[FACT] == pytest.approx(0.5)
    engine.dead = True
    await first_load.measure(recorded, adapter)  # known already: the engine is not asked
    assert services.registry.resolve("legal").details[FACT] == pytest.approx(0.5)


async def test_an_engine_that_fails_leaves_no_fact(services: Services, add: Callable[..., Any]) -> None:
    engine = ScoringEngine()
    engine.dead = True
    version = add("legal")
    async with services.slots.hold(version) as adapter:
        await FirstLoad(engine, services.registry).measure(version, adapter)
    assert FACT not in services.registry.resolve("legal").details
