"""How a client wants to search, in OpenAI's words and ours: for `/search` and for the retrieval of every dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from retrieval.errors import FilterInvalid, QueryInvalid
from retrieval.filters import Filter, parse_filter
from retrieval.search import SearchOptions

Ranker = Literal["hybrid", "dense", "lexical", "rerank"]

RANKERS: dict[str, Ranker] = {
    "hybrid": "hybrid",
    "dense": "dense",
    "lexical": "lexical",
    "rerank": "rerank",
    "auto": "hybrid",
    "none": "dense",
}
OPENAIS_DEFAULT = re.compile(r"default[-_]20\d\d[-_]\d\d[-_]\d\d")
MOST_RESULTS = 50
RANKING_OPTIONS = {"ranker", "score_threshold"}


def read_search_options(
    given: Mapping[str, Any], *, results: int, has_reranker: bool, param: str = ""
) -> SearchOptions:
    """Of `max_num_results` (else `results`), `filters` and `ranking_options`; null is as if not given.

    param: what stands before the names of fields in errors, such as "tools[0].". Raises QueryInvalid, FilterInvalid.
    """
    ranking = given.get("ranking_options")
    if ranking is None:
        ranking = {}
    if not isinstance(ranking, Mapping):
        raise QueryInvalid(f"{param}ranking_options must be an object", param=f"{param}ranking_options")
    for name in ranking.keys() - RANKING_OPTIONS:
        field = f"{param}ranking_options.{name[:64]}"
        raise QueryInvalid(f"{field}: unknown field; there are {sorted(RANKING_OPTIONS)}", param=field)
    return SearchOptions(
        max_num_results=_results(given.get("max_num_results"), results, f"{param}max_num_results"),
        ranker=_ranker(ranking.get("ranker"), has_reranker, f"{param}ranking_options.ranker"),
        score_threshold=_threshold(ranking.get("score_threshold"), f"{param}ranking_options.score_threshold"),
        filter=_filter(given.get("filters"), param),
    )


def _results(raw: Any, default: int, param: str) -> int:
    if raw is None:
        return default
    if isinstance(raw, bool) or not isinstance(raw, int) or not 1 <= raw <= MOST_RESULTS:
        raise QueryInvalid(f"{param} must be a whole number from 1 to {MOST_RESULTS}", param=param)
    return raw


def _ranker(raw: Any, has_reranker: bool, param: str) -> Ranker:
    if raw is None:
        return "hybrid"
    if not isinstance(raw, str) or (raw not in RANKERS and not OPENAIS_DEFAULT.fullmatch(raw)):
        raise QueryInvalid(f"{param} {str(raw)[:64]!r} is none; there are {sorted(RANKERS)}", param=param)
    ranker = RANKERS.get(raw, "hybrid")
    if ranker == "rerank" and not has_reranker:
        raise QueryInvalid(f"{param}: this server has no reranker; MANYHATS_RERANKER names one", param=param)
    return ranker


def _threshold(raw: Any, param: str) -> float:
    if raw is None:
        return 0.0
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw <= 1:
        raise QueryInvalid(f"{param} must be a number from 0 to 1", param=param)
    return float(raw)


def _filter(raw: Any, param: str) -> Filter | None:
    if raw is None:
        return None
    try:
        return parse_filter(raw)
    except FilterInvalid as error:
        raise FilterInvalid(str(error), param=f"{param}{error.param or 'filters'}") from None
