"""As many sources as there is room for, and never at the client's cost. The fake engine counts bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.adapter import Version
from retrieval.passage import Passage
from retrieval.search import Hit
from server.assistants import Plan, dress
from server.engine.base import Dialect, EngineRefused, Tool
from server.engine.fake import FakeEngine
from server.grounding import HEADER, NONE_FOUND, NONE_SHOWN, SEARCH_FAILED, unsearched
from server.rendering import rendered
from server.room import fitted, noted
from server.storage.assistant import Assistant
from server.turns import FIELD

BASE = Plan(public_name="demo", version=None, assistant=None)


def _with_prompt(n_virtual_tokens: int) -> Plan:
    details = {"kind": "prompt_tuning", "n_virtual_tokens": n_virtual_tokens}
    version = Version(
        adapter="brief", digest="0" * 64, lora_id=1, rank=0, size_bytes=1, source="", created_at=0, details=details
    )
    return Plan(public_name="brief", version=version, assistant=None)


QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "When?"}], "max_tokens": 100}
BODIES: dict[Dialect, dict[str, Any]] = {
    "chat": QUESTION,
    "messages": {**QUESTION, "system": "Be kind."},
    "responses": {"input": "When?", "instructions": "Be kind.", "max_output_tokens": 100},
    "completions": {"prompt": "When?", "max_tokens": 100},
}


def hit(number: int, text: str = "", *, score: float = 0.5, file: str = "a.pdf", position: int | None = None) -> Hit:
    start = 1000 * number
    passage = Passage(
        chunk_id=number,
        store_id="vs_1",
        file_id=f"file-{file}",
        filename=file,
        attributes={},
        position=number if position is None else position,
        text=text or f"passage {number}",
        page=number,
        heading=(),
        start=start,
        end=start + 999,
        language="en",
        tokens=10,
    )
    return Hit(passage=passage, score=score, dense=None, lexical=None)


def _numbers(items: Sequence[Any]) -> list[int]:
    return [item.hit.passage.chunk_id for item in items]


def _said(body: dict[str, Any]) -> str:
    said = body.get("prompt") or body.get("input") or body["messages"][-1]["content"]
    assert isinstance(said, str)
    return said


@pytest.mark.parametrize("dialect", BODIES)
async def test_sources_stand_before_the_question_by_file_and_place(dialect: Dialect) -> None:
    hits = [hit(4, file="b.md"), hit(3), hit(9, file="a.md", position=2), hit(1), hit(7, file="a.md", position=8)]
    body = BODIES[dialect]
    before = copy.deepcopy(body)
    packed = await fitted(body, BASE, dialect, hits, FakeEngine())
    assert _numbers(packed.sources) == [9, 7, 1, 3, 4]
    assert [source.number for source in packed.sources] == [1, 2, 3, 4, 5]
    said = _said(packed.body)
    assert said.startswith(f'{HEADER}\n\n[1] a.md, page 9\n"""\npassage 9\n"""\n\n[2] a.md, page 7\n')
    assert said.endswith('"""\n\nWhen?')
    assert packed.dropped == ()
    assert body == before
    again = await fitted(body, BASE, dialect, list(reversed(hits)), FakeEngine())
    assert again.body == packed.body


async def test_the_best_that_fit_are_chosen_whole() -> None:
    engine = FakeEngine(context_tokens=1000)
    hits = [hit(5, "x" * 200), hit(4, "y" * 900), hit(3, "z" * 200), hit(2, "w" * 300), hit(1, "v" * 40)]
    packed = await fitted(QUESTION, BASE, "chat", hits, engine)
    assert _numbers(packed.sources) == [1, 3, 5]
    assert [(one.chunk_id, one.reason) for one in packed.dropped] == [(4, "room"), (2, "room")]
    whole = await rendered(packed.body, "chat", engine)
    assert whole is not None
    assert whole.count + 100 <= 1000


async def test_many_long_passages_are_made_harmless_too() -> None:
    hits = [hit(number, f"{number} " + "x [1] " * 5000) for number in range(3)]
    packed = await fitted(QUESTION, BASE, "chat", hits, FakeEngine(context_tokens=1_000_000))
    assert _numbers(packed.sources) == [0, 1, 2]
    assert "x [1]" not in _said(packed.body)


async def test_duplicates_are_left_out_and_listed() -> None:
    same, longer = hit(2, "the rent is due on the first", file="copy.pdf"), hit(1, "the rent is due on the first")
    part = hit(3, "rent is due")
    inner = replace(hit(4, "other words"), passage=replace(hit(4, "other words").passage, start=1000, end=1100))
    packed = await fitted(QUESTION, BASE, "chat", [longer, same, part, inner, hit(5)], FakeEngine())
    assert _numbers(packed.sources) == [1, 5]
    assert [(one.chunk_id, one.reason) for one in packed.dropped] == [(n, "duplicate") for n in (2, 3, 4)]


@pytest.mark.parametrize("dialect", BODIES)
async def test_without_room_for_any_source_the_turn_says_so_where_that_fits(dialect: Dialect) -> None:
    hits = [hit(1, "x " * 500), hit(2, "y " * 500)]
    small = 24 if dialect == "messages" else 150  # the fake counts those in words
    for context, said in ((400, f"{NONE_SHOWN}\n\nWhen?"), (small, "When?")):
        packed = await fitted(BODIES[dialect], BASE, dialect, hits, FakeEngine(context_tokens=context))
        assert _said(packed.body) == said
        assert packed.sources == ()
        assert [one.reason for one in packed.dropped] == ["room", "room"]


@pytest.mark.parametrize("dialect", BODIES)
@pytest.mark.parametrize("most", [2000, 2048, 1_000_000])
async def test_what_an_answer_may_take_at_most_keeps_half_of_the_context_and_no_more(
    dialect: Dialect, most: int
) -> None:
    """`/v1/messages` cannot leave it out, and clients send it as a cap."""
    body = {**BODIES[dialect], "max_output_tokens" if dialect == "responses" else "max_tokens": most}
    engine = FakeEngine()
    packed = await fitted(body, BASE, dialect, [hit(1, "x " * 360), hit(2, "y " * 360), hit(3, "z " * 360)], engine)
    assert 1 <= len(packed.sources) < 3
    assert {**packed.body, FIELD[dialect]: body[FIELD[dialect]]} == body  # the cap itself goes on as it is
    whole = await rendered(packed.body, dialect, engine)
    assert whole is not None
    assert whole.count <= 1024


async def test_a_conversation_that_is_too_long_is_the_engine_s_to_refuse() -> None:
    body = {"messages": [{"role": "user", "content": "x" * 5000}]}
    assert (await fitted(body, BASE, "chat", [hit(1)], FakeEngine())).body == body
    assert (await fitted(body, BASE, "chat", [], FakeEngine())).body == body


async def test_nothing_found_is_said_where_there_is_room() -> None:
    packed = await fitted(QUESTION, BASE, "chat", [], FakeEngine())
    assert _said(packed.body) == f"{NONE_FOUND}\n\nWhen?"
    assert (packed.sources, packed.dropped) == ((), ())


async def test_a_soft_prompt_before_the_text_takes_room_too() -> None:
    """Where one virtual token less would do, the same text has no room."""
    body = {**QUESTION, "max_tokens": 50}
    whole = await rendered(
        {**body, "messages": [{"role": "user", "content": f"{NONE_FOUND}\n\nWhen?"}]}, "chat", FakeEngine()
    )
    assert whole is not None
    engine = FakeEngine(context_tokens=whole.count + body["max_tokens"] + 8)
    assert (await fitted(body, _with_prompt(8), "chat", [], engine)).body != body
    assert (await fitted(body, _with_prompt(9), "chat", [], engine)).body == body


async def test_a_failed_search_is_said_where_there_is_room() -> None:
    assert _said(await noted(QUESTION, BASE, "chat", unsearched, FakeEngine())) == f"{SEARCH_FAILED}\n\nWhen?"
    assert await noted(QUESTION, BASE, "chat", unsearched, FakeEngine(context_tokens=160)) == QUESTION


async def test_a_request_that_cannot_be_counted_goes_on_as_it_came() -> None:
    class Refusing(FakeEngine):
        async def count_tokens(self, tool: Tool, body: dict[str, Any]) -> dict[str, Any]:
            raise EngineRefused("no such role")

    packed = await fitted(QUESTION, BASE, "chat", [hit(1)], Refusing())
    assert packed.body == QUESTION
    assert [one.reason for one in packed.dropped] == ["room"]


@pytest.mark.parametrize("has_system_role", [True, False])
async def test_examples_go_before_sources_do(has_system_role: bool) -> None:
    engine = FakeEngine(context_tokens=1500)
    engine.facts = replace(engine.facts, has_system_role=has_system_role)
    examples = tuple({"user": f"question {i} {'?' * 80}", "assistant": "yes"} for i in range(6))
    assistant = Assistant(id="a", name="a", model="demo", created_at=0, instructions="Be exact.", examples=examples)
    plan = Plan(public_name="a", version=None, assistant=assistant)
    dressed = await dress(QUESTION, plan, "chat", engine)
    n_before = len(dressed["messages"])
    packed = await fitted(dressed, plan, "chat", [hit(1, "x" * 300), hit(2, "y" * 100)], engine)
    assert _numbers(packed.sources) == [1, 2]
    assert 2 < len(packed.body["messages"]) < n_before
    assert "question 0" in json.dumps(packed.body)
    assert "Be exact." in json.dumps(packed.body)
    assert _said(packed.body).endswith("When?")
    # where even all of them are too few, they stay
    packed = await fitted(dressed, plan, "chat", [hit(1, "x" * 3000)], engine)
    assert packed.body["messages"][:-1] == dressed["messages"][:-1]
    assert _said(packed.body) == f"{NONE_SHOWN}\n\nWhen?"


class Folding(FakeEngine):
    """Its tokenizer knows a control token that nobody told the server about."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.facts = replace(self.facts, control_ids=frozenset({ord("~")}))


@pytest.mark.parametrize("dialect", BODIES)
async def test_a_source_that_still_brings_a_control_token_is_left_out(dialect: Dialect) -> None:
    hits = [hit(1, "good"), hit(2, "b~d"), hit(3, "fine")]
    packed = await fitted(BODIES[dialect], BASE, dialect, hits, Folding())
    assert _numbers(packed.sources) == [1, 3]
    assert [(one.chunk_id, one.reason) for one in packed.dropped] == [(2, "control_tokens")]
    assert "~" not in json.dumps(packed.body)


async def test_the_client_s_own_control_tokens_are_its_own() -> None:
    body = {"messages": [{"role": "user", "content": "~ What is ~?"}]}
    packed = await fitted(body, BASE, "chat", [hit(1)], Folding())
    assert _numbers(packed.sources) == [1]


async def test_control_strings_are_broken_in_texts_and_titles() -> None:
    engine = FakeEngine()
    engine.facts = replace(engine.facts, control_strings=("<eot>",))
    packed = await fitted(QUESTION, BASE, "chat", [hit(1, "a<eot>b [1]", file="<eot>\n.md")], engine)
    assert "<eot>" not in _said(packed.body)
    assert packed.sources[0].hit.passage.text == "a<eot>b [1]"  # what the client is shown is the file's own


async def test_a_passage_is_counted_once() -> None:
    class Counting(FakeEngine):
        asked_for: list[str]

        async def count_tokens(self, tool: Tool, body: dict[str, Any]) -> dict[str, Any]:
            self.asked_for.append(body.get("prompt", "the whole"))
            return await super().count_tokens(tool, body)

    engine = Counting(context_tokens=800)
    hits = [hit(n, "x" * 200 + str(n)) for n in range(4)]
    engine.asked_for = []
    first = await fitted(QUESTION, BASE, "chat", hits, engine)
    assert len([text for text in engine.asked_for if text != "the whole"]) == 5  # and the header
    engine.asked_for = []
    assert (await fitted(QUESTION, BASE, "chat", hits, engine)).body == first.body
    assert engine.asked_for == ["the whole"] * 3  # alone, with all, with those chosen


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 700), max_size=8),
    context=st.integers(50, 3000),
    limit=st.integers(1, 500),
    dialect=st.sampled_from(sorted(BODIES)),
)
async def test_a_request_that_fits_alone_fits_with_its_sources(
    sizes: list[int], context: int, limit: int, dialect: Dialect
) -> None:
    engine = FakeEngine(context_tokens=context)
    field = "max_output_tokens" if dialect == "responses" else "max_tokens"
    body = {**BODIES[dialect], field: limit}
    hits = [hit(number, f"{number} " + "é" * size) for number, size in enumerate(sizes)]
    packed = await fitted(body, BASE, dialect, hits, engine)
    alone, whole = await rendered(body, dialect, engine), await rendered(packed.body, dialect, engine)
    assert alone is not None
    assert whole is not None
    assert whole.count <= max(alone.count, context - min(limit, context // 2))
    assert _said(packed.body).endswith("When?")
    listed = sorted([*_numbers(packed.sources), *(one.chunk_id for one in packed.dropped)])
    assert listed == list(range(len(sizes)))
