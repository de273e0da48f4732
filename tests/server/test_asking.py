"""What retrieval a request asks for, and what is left of it for the engine."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from retrieval.filters import Comparison, Compound
from retrieval.search import SearchOptions
from server.asking import Asked, asked
from server.assistants import Plan
from server.engine.base import Dialect
from server.errors import ApiError
from server.settings import Settings
from server.storage.assistant import Assistant

SETTINGS = Settings(engine="fake")
BASE = Plan(public_name="demo", version=None, assistant=None)
FUNCTION = {"type": "function", "function": {"name": "now"}}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs_1"]}
DRAFT = {"type": "eq", "key": "draft", "value": False}
YEAR = {"type": "gt", "key": "year", "value": 2000}
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def _guide(tool: dict[str, Any] | None = None, stores: list[str] | None = None) -> Plan:
    resources = {"file_search": {"vector_store_ids": ["handbook"] if stores is None else stores}}
    tools = ({"type": "function"}, {"type": "file_search", **({} if tool is None else {"file_search": tool})})
    assistant = Assistant(id="asst_1", name="guide", model="demo", created_at=0, tools=tools, tool_resources=resources)
    return Plan(public_name="guide", version=None, assistant=assistant)


def _asked(body: dict[str, Any], dialect: Dialect = "chat", plan: Plan = BASE) -> tuple[dict[str, Any], Asked | None]:
    before = copy.deepcopy(body)
    answer = asked(body, plan, dialect, SETTINGS)
    assert body == before
    return answer


def _wanted(body: dict[str, Any], dialect: Dialect = "chat", plan: Plan = BASE) -> Asked:
    wanted = _asked(body, dialect, plan)[1]
    assert wanted is not None
    return wanted


@pytest.mark.parametrize("dialect", ["chat", "completions", "responses", "messages"])
def test_a_request_that_asks_for_nothing_stays_as_it_is(dialect: Dialect) -> None:
    body = {
        "model": "demo",
        **HELLO,
        "input": "hello",
        "prompt": ["a", "b"],
        "tools": [FUNCTION],
        "tool_choice": "auto",
    }
    assert _asked(body, dialect) == (body, None)


@pytest.mark.parametrize("dialect", ["chat", "completions", "responses", "messages"])
def test_the_field_is_read_and_taken_out_in_every_dialect(dialect: Dialect) -> None:
    body = {**HELLO, "prompt": "hello", "input": "hello"}
    field = {
        "vector_store_ids": ["vs_1", "handbook", "vs_1"],
        "max_num_results": 3,
        "filters": DRAFT,
        "ranking_options": {"ranker": "dense", "score_threshold": 0.5},
        "rewrite_query": True,
        "markers": "strip",
    }
    forwarded, wanted = _asked({**body, "retrieval": field}, dialect)
    assert forwarded == body
    assert wanted == Asked(
        store_ids=("vs_1", "handbook"),
        options=SearchOptions(
            max_num_results=3,
            ranker="dense",
            score_threshold=0.5,
            filter=Comparison(type="eq", key="draft", value=False),
        ),
        rewrite_query=True,
        include_results=False,
        strip_markers=True,
    )


def test_what_is_not_said_is_the_server_s_default() -> None:
    wanted = _wanted({"retrieval": {"vector_store_ids": ["vs_1"]}})
    assert wanted.options == SearchOptions(max_num_results=SETTINGS.retrieval_results)
    assert not wanted.rewrite_query
    assert not wanted.strip_markers


@pytest.mark.parametrize("dialect", ["chat", "responses"])
@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"tools": [SEARCH]}, {}),
        ({"tools": [SEARCH], "tool_choice": "auto"}, {}),
        ({"tools": [SEARCH], "tool_choice": "required"}, {}),
        ({"tools": [SEARCH], "tool_choice": {"type": "file_search"}}, {}),
        ({"tools": [SEARCH, FUNCTION], "tool_choice": {"type": "file_search"}}, {"tools": [FUNCTION]}),
        ({"tools": [FUNCTION, SEARCH], "tool_choice": "required"}, {"tools": [FUNCTION], "tool_choice": "required"}),
        (
            {"tools": [FUNCTION, SEARCH], "tool_choice": {"type": "allowed_tools", "tools": [SEARCH, FUNCTION]}},
            {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "tools": [FUNCTION]}},
        ),
        (
            {
                "tools": [FUNCTION, SEARCH],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [SEARCH]}},
            },
            {"tools": [FUNCTION]},
        ),
    ],
)
def test_the_tool_is_taken_out_with_what_only_it_needs(
    dialect: Dialect, given: dict[str, Any], left: dict[str, Any]
) -> None:
    forwarded, wanted = _asked({**HELLO, **given}, dialect)
    assert forwarded == {**HELLO, **left}
    assert wanted is not None
    assert wanted.store_ids == ("vs_1",)


@pytest.mark.parametrize("tools", [5, {"a": 1}, "file_search", None])
@pytest.mark.parametrize("inner", [True, False])
def test_allowed_tools_that_are_no_list_are_left_to_the_engine(inner: bool, tools: Any) -> None:
    listed = {"mode": "auto", "tools": tools}
    choice = {"type": "allowed_tools", **({"allowed_tools": listed} if inner else listed)}
    body = {**HELLO, "tools": [FUNCTION], "tool_choice": choice}
    assert _asked(body) == (body, None)


def test_a_response_s_results_and_earlier_searches_are_ours() -> None:
    said = {"role": "user", "content": "hello", "type": "message"}
    body = {
        "input": [{"type": "file_search_call", "id": "fs_1", "queries": [], "status": "completed"}, said],
        "include": ["file_search_call.results", "message.output_text.logprobs"],
        "tools": [SEARCH],
    }
    forwarded, wanted = _asked(body, "responses")
    assert forwarded == {"input": [said], "include": ["message.output_text.logprobs"]}
    assert wanted is not None
    assert wanted.include_results
    forwarded, wanted = _asked({**body, "tools": [], "include": ["file_search_call.results"]}, "responses")
    assert (forwarded, wanted) == ({"input": [said], "tools": []}, None)


@pytest.mark.parametrize("dialect", ["messages", "completions"])
def test_other_dialects_have_no_such_tool(dialect: Dialect) -> None:
    body = {**HELLO, "tools": [SEARCH]}
    assert _asked(body, dialect) == (body, None)  # the engine says what is wrong with it


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ({"retrieval": None}, {}),
        ({"retrieval": None, "tools": [SEARCH, FUNCTION]}, {"tools": [FUNCTION]}),
        ({"tools": [SEARCH, FUNCTION], "tool_choice": "none"}, {"tools": [FUNCTION], "tool_choice": "none"}),
        ({"tools": [SEARCH], "tool_choice": "none"}, {}),
    ],
)
def test_a_search_can_be_switched_off(body: dict[str, Any], left: dict[str, Any]) -> None:
    assert _asked({**HELLO, **body}, plan=_guide()) == ({**HELLO, **left}, None)


def test_an_assistant_s_stores_and_options_need_no_asking() -> None:
    plan = _guide({"max_num_results": 3, "ranking_options": {"ranker": "lexical"}, "filters": DRAFT})
    for dialect in ("chat", "responses", "messages"):
        forwarded, wanted = _asked(HELLO, dialect, plan)
        assert forwarded == HELLO
        assert wanted is not None
        assert wanted.store_ids == ("handbook",)
        assert wanted.options.max_num_results == 3
        assert wanted.options.ranker == "lexical"
        assert wanted.options.filter is not None
    assert _wanted({**HELLO, "tools": [FUNCTION], "tool_choice": "none"}, plan=plan).store_ids == ("handbook",)
    assert _asked(HELLO, plan=_guide(stores=[]))[1] is None


def test_what_is_asked_wins_over_the_assistant_s_and_filters_add_up() -> None:
    plan = _guide({"max_num_results": 3, "ranking_options": {"ranker": "lexical"}, "filters": DRAFT})
    wanted = _wanted({"retrieval": {"vector_store_ids": ["vs_1"], "max_num_results": 5, "filters": YEAR}}, plan=plan)
    assert wanted.store_ids == ("vs_1",)
    assert wanted.options.max_num_results == 5
    assert wanted.options.ranker == "lexical"
    assert isinstance(wanted.options.filter, Compound)
    assert wanted.options.filter.matches({"draft": False, "year": 2001})
    assert not wanted.options.filter.matches({"draft": True, "year": 2001})
    assert not wanted.options.filter.matches({"draft": False, "year": 1999})
    assert _wanted({"retrieval": {}}, plan=plan).store_ids == ("handbook",)
    assert _wanted({"tools": [{"type": "file_search", "max_num_results": 9}]}, plan=plan).options.max_num_results == 9


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"retrieval": []}, "retrieval"),
        ({"retrieval": True}, "retrieval"),
        ({"retrieval": "vs_1"}, "retrieval"),
        ({"retrieval": {}}, "retrieval.vector_store_ids"),
        ({"retrieval": {"vector_store_ids": []}}, "retrieval.vector_store_ids"),
        ({"retrieval": {"vector_store_ids": "vs_1"}}, "retrieval.vector_store_ids"),
        ({"retrieval": {"vector_store_ids": [1]}}, "retrieval.vector_store_ids"),
        ({"retrieval": {"vector_store_ids": [""]}}, "retrieval.vector_store_ids"),
        ({"retrieval": {"vector_store_ids": [f"vs_{i}" for i in range(21)]}}, "retrieval.vector_store_ids"),
        ({"retrieval": {"vector_store_ids": ["a"], "limit": 3}}, "retrieval.limit"),
        ({"retrieval": {"vector_store_ids": ["a"], "rewrite_query": 1}}, "retrieval.rewrite_query"),
        ({"retrieval": {"vector_store_ids": ["a"], "markers": "hide"}}, "retrieval.markers"),
        ({"retrieval": {"vector_store_ids": ["a"], "markers": ["keep"]}}, "retrieval.markers"),
        ({"retrieval": {"vector_store_ids": ["a"]}, "tools": [SEARCH]}, "retrieval"),
        ({"tools": [SEARCH, FUNCTION, SEARCH]}, "tools[2]"),
        ({"tools": [FUNCTION, {"type": "file_search"}]}, "tools[1].vector_store_ids"),
        ({"tools": [{**SEARCH, "max_num_results": 0}]}, "tools[0].max_num_results"),
        ({"tools": [{**SEARCH, "max_num_results": 51}]}, "tools[0].max_num_results"),
        ({"tools": [{**SEARCH, "max_num_results": True}]}, "tools[0].max_num_results"),
        ({"tools": [FUNCTION, {**SEARCH, "max_num_results": "3"}]}, "tools[1].max_num_results"),
        ({"tools": [{**SEARCH, "ranking_options": []}]}, "tools[0].ranking_options"),
        ({"tools": [{**SEARCH, "ranking_options": {"ranker": "best"}}]}, "tools[0].ranking_options.ranker"),
        ({"tools": [{**SEARCH, "ranking_options": {"ranker": "rerank"}}]}, "tools[0].ranking_options.ranker"),
        (
            {"tools": [{**SEARCH, "ranking_options": {"score_threshold": 2}}]},
            "tools[0].ranking_options.score_threshold",
        ),
        ({"tools": [{**SEARCH, "filters": {"type": "like"}}]}, "tools[0].filters"),
        ({"tools": [{**SEARCH, "rewrite_query": True}]}, "tools[0].rewrite_query"),
    ],
)
def test_what_is_asked_wrongly_is_told_by_its_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        _asked({**HELLO, **body})
    assert caught.value.status == 400
    assert caught.value.param == param
    assert param.rpartition(".")[2].partition("[")[0] in caught.value.message


@pytest.mark.parametrize("prompt", [["a"], [1, 2], [[1], [2]], None])
def test_a_completion_from_sources_takes_one_text(prompt: Any) -> None:
    for plan, body in ((BASE, {"retrieval": {"vector_store_ids": ["a"]}}), (_guide(), {})):
        with pytest.raises(ApiError, match="one text") as caught:
            _asked({"prompt": prompt, **body}, "completions", plan)
        assert caught.value.param == "prompt"
    assert _asked({"prompt": prompt, "retrieval": None}, "completions", _guide()) == ({"prompt": prompt}, None)


def test_what_is_wrong_in_an_assistant_names_it() -> None:
    for options in ({"max_num_results": 0}, {"filters": 3}, {"ranking_options": {"ranker": "rerank"}}):
        with pytest.raises(ApiError, match=r"assistant 'guide' is set up wrongly: .*(file_search|filters)"):
            _asked(HELLO, plan=_guide(options))
