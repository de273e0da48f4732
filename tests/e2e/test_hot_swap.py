"""A name moves between versions while many use it; one version answers under many names."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

# what the two versions were trained to say, whatever they are asked; no word in common
HEADS = "heads crown king queen gold sun north up front summer red morning east warm bright high day bell"
TAILS = "tails eagle ship river silver moon south down back winter blue evening west cold dark low night"

N_CLIENTS = 16
N_MOVES = 100
ASK: Any = {"messages": [{"role": "user", "content": "Which side is it?"}], "temperature": 0, "max_tokens": 12}


@dataclass(slots=True)
class Seen:
    """What the clients have received, and a signal for each answer."""

    answers: list[str] = field(default_factory=list)
    another: asyncio.Event = field(default_factory=asyncio.Event)
    moved: bool = False


async def test_an_alias_moves_a_hundred_times_under_sixteen_streams(
    many: openai.AsyncOpenAI, server: str, coin: dict[str, Any]
) -> None:
    seen = Seen()

    async def ask_until_all_is_moved() -> None:
        while not seen.moved:
            stream = await many.chat.completions.create(model="coin", stream=True, **ASK)
            text = ""
            async for chunk in stream:
                assert chunk.model == "coin"
                text += chunk.choices[0].delta.content or ""
            seen.answers.append(text)
            seen.another.set()

    async def move() -> None:
        async with httpx2.AsyncClient(base_url=server, timeout=60) as http:
            sides = itertools.cycle(["tails", "heads"])
            for side in itertools.islice(sides, N_MOVES):
                seen.another.clear()
                await seen.another.wait()  # so that answers lie between the moves
                moved = await http.post("/v1/adapters/coin/alias", json={"version": coin[side]["id"]})
                assert moved.status_code == 200, moved.text
                assert moved.json()["traffic"] == {coin[side]["id"]: 1}
        seen.moved = True

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(N_CLIENTS):
            group.create_task(ask_until_all_is_moved())
        group.create_task(move())

    sides = [_side(answer) for answer in seen.answers]
    assert len(sides) >= N_MOVES
    assert sides.count("heads") >= 10
    assert sides.count("tails") >= 10


async def test_one_version_under_four_names_at_once(
    many: openai.AsyncOpenAI, http: httpx2.Client, coin: dict[str, Any]
) -> None:
    version = coin["heads"]
    made = http.post("/v1/assistants", json={"name": "croupier", "model": "coin", "instructions": "Be brief."})
    assert made.status_code == 200, made.text
    names = ["coin", version["id"], f"coin@{version['digest'][:7]}", "croupier"] * 8
    try:
        answers = await asyncio.gather(*(many.chat.completions.create(model=name, **ASK) for name in names))
    finally:
        assert http.delete("/v1/assistants/croupier").status_code == 200
    assert [answer.model for answer in answers] == names
    assert {_side(answer.choices[0].message.content or "") for answer in answers} == {"heads"}


async def test_a_canary_keeps_each_user_on_one_version(
    many: openai.AsyncOpenAI, http: httpx2.Client, coin: dict[str, Any]
) -> None:
    traffic = {coin["heads"]["id"]: 1, coin["tails"]["id"]: 1}
    moved = http.post("/v1/adapters/coin/alias", json={"traffic": traffic})
    assert moved.json()["traffic"] == traffic

    async def sides() -> Sequence[str]:
        asked = (many.chat.completions.create(model="coin", user=f"user-{i}", **ASK) for i in range(16))
        return [_side(answer.choices[0].message.content or "") for answer in await asyncio.gather(*asked)]

    first = await sides()
    assert set(first) == {"heads", "tails"}
    assert await sides() == first


def _side(answer: str) -> str:
    """Which version said this; the last word may be cut off by max_tokens."""
    words = answer.lower().split()[:-1]
    assert words, answer
    if set(words) <= set(HEADS.split()):
        return "heads"
    assert set(words) <= set(TAILS.split()), f"neither version says {answer!r}"
    return "tails"
