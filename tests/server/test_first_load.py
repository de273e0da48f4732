"""The first load's fact: how far an adapter moves one answer, in nats per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.engine.base import Answer, Call, EngineUnavailable, Usage
from server.engine.fake import FakeEngine
from server.first_load import FACT, FirstLoad, difference
from server.services import Services


class ScoringEngine(FakeEngine):
    """Greedy answers of three tokens, each with log-probability -1 under the base and -1.5 under an adapter."""

    async def answer(self, call: Call) -> Answer:
        if self.dead:
            raise EngineUnavailable("down")
        assert "prompt_logprobs" not in call.body  # vLLM dies of them when adapters are in the batch
        score = -1.5 if call.adapter else -1.0
        tokens = [f"token_id:{number}" for number in (7, 8, 9)]
        told = {"tokens": tokens, "top_logprobs": [{token: score, "token_id:1": -9.0} for token in tokens]}
        return Answer(body={"choices": [{"logprobs": told}]}, frames=None, usage=Usage)


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


def test_only_places_with_the_same_words_before_are_compared() -> None:
    base = [("a", {"a": -1.0}), ("b", {"b": -1.0}), ("c", {"c": -1.0})]
    own = [("a", {"a": -1.0}), ("x", {"x": -0.1, "b": -3.0}), ("c", {"c": -50.0})]
    assert difference(base, own) == pytest.approx(1.0)  # (0 + 2) / 2: after "x" the answers have gone apart


def test_a_token_that_is_not_told_counts_as_the_least_likely_one() -> None:
    assert difference([("a", {"a": -1.0})], [("x", {"x": -0.1, "y": -4.0})]) == pytest.approx(3.0)
