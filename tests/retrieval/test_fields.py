from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import fields
from retrieval.errors import FileInvalid, StoreInvalid
from retrieval.vector_store import Chunking

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=20),
    max_leaves=20,
)


def test_chunking() -> None:
    static = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
    read = fields.read_chunking(static)
    assert read == Chunking(type="static", max_tokens=800, overlap_tokens=400)
    assert read.as_object() == static
    assert fields.read_chunking({"type": "auto"}) == Chunking()
    assert fields.read_chunking(None) is None


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("auto", "chunking_strategy"),
        ({}, "chunking_strategy"),
        ({"type": "other"}, "chunking_strategy"),
        ({"type": "auto", "static": {}}, "chunking_strategy"),
        ({"type": "static"}, "chunking_strategy.static"),
        ({"type": "static", "static": {"max_chunk_size_tokens": 800}}, "chunking_strategy.static.chunk_overlap_tokens"),
        ((99, 0), "chunking_strategy.static.max_chunk_size_tokens"),
        ((4_097, 0), "chunking_strategy.static.max_chunk_size_tokens"),
        ((800, 401), "chunking_strategy.static.chunk_overlap_tokens"),
        ((800, -1), "chunking_strategy.static.chunk_overlap_tokens"),
        ((True, 0), "chunking_strategy.static.max_chunk_size_tokens"),
        ((800.0, 0), "chunking_strategy.static.max_chunk_size_tokens"),
    ],
)
def test_what_is_no_chunking(given: Any, param: str) -> None:
    if isinstance(given, tuple):
        sizes = {"max_chunk_size_tokens": given[0], "chunk_overlap_tokens": given[1]}
        given = {"type": "static", "static": sizes}
    with pytest.raises(StoreInvalid) as refused:
        fields.read_chunking(given)
    assert refused.value.param == param


def test_the_limits_themselves_are_taken() -> None:
    fields.check_chunking(Chunking(type="static", max_tokens=100, overlap_tokens=50))
    fields.check_chunking(Chunking(type="static", max_tokens=4_096, overlap_tokens=2_048))
    assert len(fields.read_metadata({"k" * 62 + f"{n:02}": "v" * 512 for n in range(16)})) == 16
    assert fields.read_expires_after({"anchor": "last_active_at", "days": 365}) == 365
    assert fields.read_file_expires_after("created_at", "3600") == 3_600
    assert fields.read_file_expires_after(None, None) is None
    assert fields.read_expires_after(None) is None


@pytest.mark.parametrize(
    ("attributes", "param"),
    [
        ([], "attributes"),
        ({"k" * 65: 1}, "attributes"),
        ({"": 1}, "attributes"),
        ({str(n): n for n in range(17)}, "attributes"),
        ({"k": "v" * 513}, "attributes.k"),
        ({"k": None}, "attributes.k"),
        ({"k": []}, "attributes.k"),
        ({"k": float("inf")}, "attributes.k"),
        ({"k": 10**400}, "attributes.k"),
        ({"k": "\ud800"}, "attributes.k"),
        ({"\udfff": 1}, "attributes"),
        ({"k": "\0"}, "attributes.k"),
    ],
)
def test_what_are_no_attributes(attributes: Any, param: str) -> None:
    with pytest.raises(StoreInvalid) as refused:
        fields.read_attributes(attributes)
    assert refused.value.param == param


def test_attributes_keep_their_kinds() -> None:
    read = fields.read_attributes({"s": "é", "i": 3, "f": 3.0, "b": True})
    assert [type(value) for value in read.values()] == [str, int, float, bool]
    assert fields.read_attributes(None) == {}


@pytest.mark.parametrize(
    "given",
    [
        "7",
        {"anchor": "created_at", "days": 7},
        {"anchor": "last_active_at"},
        {"anchor": "last_active_at", "days": "7"},
        {"anchor": "last_active_at", "days": 0},
        {"anchor": "last_active_at", "days": 366},
        {"anchor": "last_active_at", "days": True},
        {"anchor": "last_active_at", "days": 7, "hours": 1},
    ],
)
def test_what_is_no_end_of_a_store(given: Any) -> None:
    with pytest.raises(StoreInvalid):
        fields.read_expires_after(given)


@pytest.mark.parametrize(
    ("anchor", "seconds"),
    [("last_active_at", 3_600), (None, 3_600), ("created_at", None), ("created_at", "x"), ("created_at", 3_599)],
)
def test_what_is_no_end_of_a_file(anchor: Any, seconds: Any) -> None:
    with pytest.raises(FileInvalid) as refused:
        fields.read_file_expires_after(anchor, seconds)
    assert (refused.value.param or "").startswith("expires_after[")


@given(ANYTHING)
def test_whatever_comes_is_read_or_refused(raw: Any) -> None:
    """And what was read can be kept and sent: it is JSON without NaN, in characters that UTF-8 has."""
    readers = (
        fields.read_name,
        fields.read_description,
        fields.read_metadata,
        fields.read_attributes,
        fields.read_expires_after,
    )
    for read in readers:
        try:
            kept = read(raw)
        except StoreInvalid:
            continue
        json.dumps(kept, allow_nan=False, ensure_ascii=False).encode()
    with suppress(StoreInvalid):
        fields.read_chunking(raw)
