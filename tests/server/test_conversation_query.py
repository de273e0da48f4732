"""What is searched for in conversations as people have them, in English and Portuguese."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.assistants import Plan
from server.conversation_query import (
    LONGEST_QUERY,
    LONGEST_WORD,
    content_words,
    is_follow_up,
    query_of,
    rewritten,
)
from server.engine.base import Answer, Call, EngineUnavailable
from server.engine.fake import FakeEngine
from server.services import Services
from server.turns import Turn

BASE = Plan(public_name="demo", version=None, assistant=None)


def _turns(*said: str) -> list[Turn]:
    """Turns of user and assistant, one after the other."""
    return [Turn(role="assistant" if place % 2 else "user", text=text, place=place) for place, text in enumerate(said)]


@pytest.mark.parametrize(
    ("said", "query"),
    [
        # alone
        (["What is the notice period for tenants?"], "What is the notice period for tenants?"),
        (["rent"], "rent"),
        (["  Qual é o prazo\n de aviso prévio? "], "Qual é o prazo de aviso prévio?"),
        # a new subject says enough by itself
        (
            ["How long is the notice period?", "Two months.", "Which documents does a landlord need to sell a flat?"],
            "Which documents does a landlord need to sell a flat?",
        ),
        (
            [
                "Qual é o prazo de aviso?",
                "Dois meses.",
                "Que documentos o senhorio precisa de entregar para vender a casa?",
            ],
            "Que documentos o senhorio precisa de entregar para vender a casa?",
        ),
        (
            ["O que é a caução?", "Um depósito.", "Onde está registado o contrato de arrendamento habitacional?"],
            "Onde está registado o contrato de arrendamento habitacional?",
        ),
        # ellipsis
        (
            ["How long is the notice period in Porto?", "Two months.", "And in Lisbon?"],
            "long notice period Porto And in Lisbon?",
        ),
        (["Qual é o prazo de aviso no Porto?", "Dois meses.", "E em Lisboa?"], "prazo aviso Porto E em Lisboa?"),
        (["How is the deposit paid back?", "By transfer.", "Why?"], "deposit paid back Why?"),
        (["Quem paga o condomínio?", "O senhorio.", "por quê?"], "paga condomínio por quê?"),
        # pronouns and demonstratives
        (
            ["Who founded the Lisbon Tenants Union?", "Maria Silva.", "When was she elected president of it?"],
            "founded Lisbon Tenants Union When was she elected president of it?",
        ),
        (
            [
                "O que é a renda apoiada?",
                "Uma renda que depende do rendimento.",
                "Como é que ela é calculada pela câmara?",
            ],
            "renda apoiada Como é que ela é calculada pela câmara?",
        ),
        (
            ["Explain the Llama adapter format", "It is …", "does this work with quantised models too"],
            "Llama adapter format does this work with quantised models too",
        ),
        (
            ["Posso rescindir o contrato de arrendamento?", "Sim.", "Preciso de notificá-lo por carta registada?"],
            "Posso rescindir contrato arrendamento Preciso de notificá-lo por carta registada?",
        ),
        # a chain of follow-ups reaches back to its subject, and no further
        (
            ["Tell me about cats", "…", "What is the notice period for a flat?", "…", "And the deposit?", "…", "Why?"],
            "notice period flat deposit Why?",
        ),
        # what the turn says itself is not said twice
        (["The deposit for a flat", "…", "is the deposit it pays back"], "flat is the deposit it pays back"),
        # nothing of the user's
        ([], ""),
    ],
)
def test_the_question(said: list[str], query: str) -> None:
    assert query_of(_turns(*said)) == query


def test_only_the_user_decides() -> None:
    turns = [
        Turn(role="system", text="You know penguins.", place=0),
        Turn(role="user", text="How heavy is an emperor penguin?", place=1),
        Turn(role="assistant", text="Forty kilogrammes of elephants.", place=2),
        Turn(role="user", text="and its eggs?", place=3),
        Turn(role="tool", text="0.45 kg", place=4),
    ]
    assert query_of(turns) == "heavy emperor penguin and its eggs?"


def test_a_long_turn_is_cut_in_its_middle() -> None:
    text = f"What does this mean? {'lorem ipsum ' * 5000} Is the tenant liable?"
    query = query_of(_turns(text))
    assert len(query) <= LONGEST_QUERY
    assert query.startswith("What does this mean? lorem")
    assert query.endswith("ipsum Is the tenant liable?")
    assert len(query_of(_turns("x" * 5000, "…", "é" * 5000))) <= LONGEST_QUERY


@pytest.mark.parametrize(
    "said",
    [
        "a" * 1200,
        f"https://example.com/{'path/' * 240}",
        f"{'QmFzZTY0' * 150}==",
        f"The token is {'eyJhbGciOi' * 120} and the device is a Kettle 3000",
    ],
)
def test_a_long_word_of_an_earlier_turn_leaves_the_question_whole(said: str) -> None:
    query = query_of(_turns(said, "…", "and how long is the warranty?"))
    assert query.endswith("and how long is the warranty?")
    assert max(len(word) for word in query.split()) <= LONGEST_WORD
    assert ("Kettle 3000" in query) is ("Kettle" in said)


@pytest.mark.parametrize("length", [900, 993, 994, 1000, 1200])
def test_words_of_earlier_turns_take_the_room_that_is_left(length: int) -> None:
    asked = "why? " + "? " * 500
    asked = asked[: length - 4] + " Why"
    query = query_of(_turns("The notice period of a furnished flat", "…", asked))
    assert len(query) <= LONGEST_QUERY
    if length <= LONGEST_QUERY:
        assert query.endswith(" ".join(asked.split()))
    assert query.startswith("notice") is (length <= LONGEST_QUERY - len("notice "))


@pytest.mark.parametrize("text", ["…", "???", "👍", "\u200b", "- - -", "1"])
def test_turns_without_words_are_no_error(text: str) -> None:
    assert query_of(_turns("How long is the notice period?", "…", text)).startswith("long notice period")
    assert query_of(_turns(text)) == text


def test_portuguese_without_accents_is_understood_too() -> None:
    assert is_follow_up("e então?")
    assert is_follow_up("e entao isso tambem vale no Porto?")
    assert content_words("Não está ALUGADA a Casa, casa") == ["ALUGADA", "Casa"]


class Thinking(FakeEngine):
    """Answers with one text, whatever it is asked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    async def answer(self, call: Call) -> Answer:
        answer = await super().answer(call)
        assert answer.body is not None
        answer.body["choices"][0]["message"]["content"] = self.text
        return answer


def _with(services: Services, engine: Any) -> Services:
    object.__setattr__(services, "engine", engine)
    return services


FOLLOW_UP = _turns("How long is the notice period?", "Two months.", "And in Lisbon?")


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("notice period in Lisbon", "notice period in Lisbon"),
        ('<think>\nhm\n</think>\n\nQuery: "notice period in Lisbon"\nBecause', "notice period in Lisbon"),
        ("<think>\nstill thinking", None),
        (" \n ", None),
    ],
)
async def test_the_model_rewrites_a_question(services: Services, text: str, query: str | None) -> None:
    engine = Thinking(text)
    assert await rewritten(FOLLOW_UP, BASE, _with(services, engine), request_id="r1") == query
    body = engine.calls[0].body
    assert body["temperature"] == 0
    assert body["max_tokens"] == 64
    assert "user: And in Lisbon?" in body["messages"][0]["content"]


async def test_nothing_is_rewritten_where_nothing_was_said_before(services: Services, engine: FakeEngine) -> None:
    assert await rewritten(FOLLOW_UP[:1], BASE, services, request_id="r1") is None
    assert engine.calls == []


async def test_a_model_that_fails_or_takes_long_rewrites_nothing(
    services: Services, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.fails_with = EngineUnavailable("down")
    assert await rewritten(FOLLOW_UP, BASE, services, request_id="r1") is None
    monkeypatch.setattr("server.conversation_query.REWRITE_SECONDS", 0.01)
    engine.fails_with = None
    engine.gate.clear()
    assert await rewritten(FOLLOW_UP, BASE, services, request_id="r2") is None
    assert engine.aborted == ["r2-query"]


async def test_the_request_s_own_time_is_not_swallowed(services: Services, engine: FakeEngine) -> None:
    engine.gate.clear()
    task = asyncio.create_task(rewritten(FOLLOW_UP, BASE, services, request_id="r1"))
    await engine.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_adapter_of_the_request_rewrites(services: Services, engine: FakeEngine, add: Any) -> None:
    version = add("legal")
    plan = Plan(public_name="legal", version=version, assistant=None)
    assert await rewritten(FOLLOW_UP, plan, services, request_id="r1")
    assert engine.calls[0].adapter is not None
    assert engine.calls[0].adapter.engine_name == version.engine_name
