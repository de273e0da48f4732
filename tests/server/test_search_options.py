"""OpenAI's words for rankers mean ours, defaults are the place's, and a wrong option is told by its whole name."""

from __future__ import annotations

from typing import Any

import pytest

from retrieval.errors import FilterInvalid, QueryInvalid
from retrieval.search import SearchOptions
from server.search_options import read_search_options

NULLS = {"max_num_results": None, "filters": None, "ranking_options": None}


def read(given: dict[str, Any], **further: Any) -> SearchOptions:
    return read_search_options(given, results=8, **{"has_reranker": False, **further})


@pytest.mark.parametrize("given", [{}, NULLS, {"ranking_options": {}}, {"ranking_options": {"ranker": None}}])
def test_null_is_as_if_not_given(given: dict[str, Any]) -> None:
    assert read(given) == SearchOptions(max_num_results=8, ranker="hybrid", score_threshold=0.0, filter=None)


@pytest.mark.parametrize(
    ("word", "ranker"),
    [
        ("auto", "hybrid"),
        ("default-2024-11-15", "hybrid"),
        ("default_2024_08_21", "hybrid"),
        ("none", "dense"),
        ("dense", "dense"),
        ("lexical", "lexical"),
        ("rerank", "rerank"),
    ],
)
def test_rankers(word: str, ranker: str) -> None:
    assert read({"ranking_options": {"ranker": word}}, has_reranker=True).ranker == ranker


def test_what_is_given_is_read() -> None:
    options = read(
        {
            "max_num_results": 50,
            "ranking_options": {"score_threshold": 1},
            "filters": {"type": "eq", "key": "year", "value": 2024},
        }
    )
    assert (options.max_num_results, options.score_threshold) == (50, 1.0)
    assert options.filter is not None
    assert options.filter.matches({"year": 2024})
    assert not options.filter.matches({"year": 2023})


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"max_num_results": 51}, "max_num_results"),
        ({"max_num_results": 1.5}, "max_num_results"),
        ({"ranking_options": []}, "ranking_options"),
        ({"ranking_options": {"hybrid_search": {}}}, "ranking_options.hybrid_search"),
        ({"ranking_options": {"ranker": "default"}}, "ranking_options.ranker"),
        ({"ranking_options": {"ranker": 3}}, "ranking_options.ranker"),
        ({"ranking_options": {"ranker": "rerank"}}, "ranking_options.ranker"),
        ({"ranking_options": {"score_threshold": "1"}}, "ranking_options.score_threshold"),
        ({"ranking_options": {"score_threshold": float("nan")}}, "ranking_options.score_threshold"),
        ({"filters": {"type": "eq"}}, "filters"),
        ({"filters": []}, "filters"),
    ],
)
def test_what_is_wrong_is_told_by_its_whole_name(given: dict[str, Any], param: str) -> None:
    with pytest.raises((QueryInvalid, FilterInvalid)) as caught:
        read(given, param="tools[2].")
    assert str(caught.value.param).startswith(f"tools[2].{param}")
