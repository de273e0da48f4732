from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import FilterInvalid
from retrieval.filters import MAX_COMPARISONS, MAX_DEPTH, parse_filter

FILE = {"year": 2024, "author": "Machado", "price": 1.5, "public": True, "day": "2024-03-01"}


def matches(type: str, key: str, value: Any) -> bool:  # noqa: A002  # as clients name it
    return parse_filter({"type": type, "key": key, "value": value}).matches(FILE)


@pytest.mark.parametrize(
    ("type", "key", "value"),
    [
        ("eq", "year", 2024),
        ("eq", "year", 2024.0),
        ("eq", "author", "Machado"),
        ("eq", "public", True),
        ("ne", "year", 2023),
        ("ne", "missing", 1),
        ("gt", "year", 2023),
        ("gte", "year", 2024),
        ("lt", "price", 2),
        ("lte", "price", 1.5),
        ("gt", "day", "2024-02-29"),
        ("in", "author", ["Eça", "Machado"]),
        ("in", "year", [1, 2024]),
        ("nin", "author", ["Eça"]),
        ("nin", "missing", ["x"]),
    ],
)
def test_what_passes(type: str, key: str, value: Any) -> None:  # noqa: A002
    assert matches(type, key, value)


@pytest.mark.parametrize(
    ("type", "key", "value"),
    [
        ("eq", "year", "2024"),
        ("eq", "public", 1),
        ("eq", "missing", ""),
        ("ne", "author", "Machado"),
        ("gt", "year", 2024),
        ("gt", "year", "2023"),
        ("gt", "public", 0),
        ("lt", "missing", 5),
        ("gte", "author", 1),
        ("in", "public", [1, 0]),
        ("in", "missing", ["x"]),
        ("nin", "year", [2024]),
    ],
)
def test_what_does_not(type: str, key: str, value: Any) -> None:  # noqa: A002
    assert not matches(type, key, value)


def test_compounds() -> None:
    yes, no = ({"type": "eq", "key": "year", "value": value} for value in (2024, 0))
    assert parse_filter({"type": "and", "filters": [yes, yes]}).matches(FILE)
    assert not parse_filter({"type": "and", "filters": [yes, no]}).matches(FILE)
    assert parse_filter({"type": "or", "filters": [no, {"type": "and", "filters": [yes]}]}).matches(FILE)
    assert not parse_filter({"type": "or", "filters": [no]}).matches(FILE)


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
    for _ in range(depth - 1):
        inner = {"type": "and", "filters": [inner]}
    return inner


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "filters must be an object"),
        ("year = 1", "filters must be an object"),
        ([], "not a list"),
        ({}, "filters.type must be one of eq, ne"),
        ({"type": "equals", "key": "a", "value": 1}, "not 'equals'"),
        ({"type": ["eq"], "key": "a", "value": 1}, "not a list"),
        ({"type": "eq", "key": "a"}, "filters.value is missing"),
        ({"type": "eq", "value": 1}, "filters.key must be an attribute's name"),
        ({"type": "eq", "key": "", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "k" * 65, "value": 1}, "filters.key"),
        ({"type": "eq", "key": "a", "value": None}, "not null"),
        ({"type": "eq", "key": "a", "value": {"b": 1}}, "not an object"),
        ({"type": "eq", "key": "a", "value": [1]}, "not a list"),
        ({"type": "eq", "key": "a", "value": float("nan")}, "finite"),
        ({"type": "gt", "key": "a", "value": True}, "must be a number or text for 'gt'"),
        ({"type": "in", "key": "a", "value": "x"}, "list of 1 to 2000 values"),
        ({"type": "in", "key": "a", "value": []}, "list of 1 to 2000 values"),
        ({"type": "nin", "key": "a", "value": [1, None]}, r"filters.value\[1\]"),
        ({"type": "eq", "key": "a", "value": 1, "values": 2}, "unknown key 'values'"),
        ({"type": "and", "filters": []}, "at least one filter"),
        ({"type": "and", "filters": {"type": "eq"}}, "at least one filter"),
        ({"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}, 7]}, r"filters.filters\[1\] must be"),
        ({"type": "and", "key": "a", "filters": [1]}, "unknown key 'key'"),
        (nested(MAX_DEPTH + 1), "nested too deep"),
        ({"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}] * (MAX_COMPARISONS + 1)}, "more than 256"),
    ],
)
def test_bad_filters_say_where_and_what_would_work(raw: Any, said: str) -> None:
    with pytest.raises(FilterInvalid, match=said) as invalid:
        parse_filter(raw)
    assert invalid.value.param == "filters"


def test_as_deep_and_as_many_as_allowed() -> None:
    parse_filter(nested(MAX_DEPTH))
    parse_filter({"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}] * MAX_COMPARISONS})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "key", "value", "filters"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_anything_else_is_refused(raw: Any) -> None:
    try:
        parsed = parse_filter(raw)
    except FilterInvalid:
        return
    assert parsed.matches(FILE) in (True, False)
