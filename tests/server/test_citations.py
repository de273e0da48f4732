"""Markers are found however the text is cut, and taken out whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.citations import LONGEST, Citation, Markers

SOURCES = (1, 2, 3, 12)


def read(pieces: Sequence[str], *, strip: bool = False) -> tuple[str, list[Citation]]:
    markers = Markers(SOURCES, strip=strip)
    sent = [markers.feed(piece) for piece in pieces]
    return "".join([*sent, markers.finish()]), markers.citations


def numbers(text: str) -> list[int]:
    return [citation.number for citation in read([text])[1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is blue [1].", [1]),
        ("It is blue[1][2].", [1, 2]),
        ("It is blue [1, 2;12].", [1, 2, 12]),
        ("It is blue [1-3].", [1, 2, 3]),
        ("It is blue [1–3, 12].", [1, 2, 3, 12]),
        ("It is blue [ 2 ].", [2]),
        ("[[1]]", [1]),
        ("It is blue [1", []),
        ("[4] [0] [01] [1,9] [1-4] [3-1] [2-12] [1,,2] [1 2] [] [-] [1a] [a1] [１]", []),
        ("[1\n]", []),
        ("[" + "1," * LONGEST + "1]", []),
        ("a `list[1]` and ``b`[1]`` and [2]", [2]),
        ("```\nrow[1]\n``\n[2]\n```\nthe row [3]", [3]),
        ("a ` alone\nand then [1]", [1]),
        ("it's a [link][1] or [1](http://x.example)", [1, 1]),
    ],
)
def test_what_a_marker_is(text: str, expected: list[int]) -> None:
    assert numbers(text) == expected


def test_a_span_is_the_marker_in_the_text() -> None:
    text = "Ação 🦜 azul [1], sim [2, 3]."
    sent, citations = read([text])
    assert sent == text
    assert [text[citation.start : citation.end] for citation in citations] == ["[1]", "[2, 3]", "[2, 3]"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is blue [1]. Sure [2].", "It is blue. Sure."),
        ("It is blue[1][2] [3].", "It is blue."),
        ("It is  [1] blue", "It is  blue"),
        ("[1] It is blue [2]", " It is blue"),
        ("It is blue [4]. [1", "It is blue [4]. [1"),
        ("end of line [1]\nnext ", "end of line\nnext "),
        ("see [1](http://x.example), [2].", "see [1](http://x.example),."),
        ("`a [1]` is code [1]", "`a [1]` is code"),
        ("[[1]]", "[]"),
        ("", ""),
        (" ", " "),
        ("[1]", ""),
    ],
)
def test_markers_are_taken_out_with_the_blank_before_them(text: str, expected: str) -> None:
    assert read([text], strip=True)[0] == expected


def test_a_marker_that_was_taken_out_leaves_its_place() -> None:
    sent, citations = read(["É azul [1]. Sim [2, 3]."], strip=True)
    assert sent == "É azul. Sim."
    assert citations == [Citation(1, 6, 6), Citation(2, 11, 11), Citation(3, 11, 11)]


def test_a_link_that_is_kept_is_cited_where_it_stands() -> None:
    sent, citations = read(["see [1](u)"], strip=True)
    assert [sent[citation.start : citation.end] for citation in citations] == ["[1]"]


def test_what_was_sent_before_counts() -> None:
    markers = Markers(SOURCES, position=10)
    markers.feed("is it [1]")
    assert markers.citations == [Citation(1, 16, 19)]


def test_sources_come_in_the_order_of_their_first_markers() -> None:
    markers = Markers(SOURCES)
    markers.feed("a [3] b [1] c [3, 2]")
    assert markers.cited == [3, 1, 2]


def test_text_goes_on_at_once_unless_it_may_begin_a_marker() -> None:
    markers = Markers(SOURCES, strip=True)
    assert markers.feed("It is blue ") == "It is blue"
    assert markers.feed("[") == ""
    assert markers.feed("1") == ""
    assert markers.feed("9") == ""
    assert markers.feed(" years") == " [19 years"
    assert markers.feed(" [1") == ""
    assert markers.finish() == " [1"
    kept = Markers(SOURCES)
    assert [kept.feed(piece) for piece in ("a [", "1", "]")] == ["a [", "1", "]"]
    assert kept.citations == [Citation(1, 2, 5)]


PARTS = st.sampled_from(
    [
        "[1]",
        "[2, 3]",
        "[1-3]",
        "[9]",
        "[",
        "]",
        "1",
        ",",
        " ",
        "(",
        "`",
        "``",
        "```",
        "\n",
        "blue",
        "é",
        "🦜",
        "[12]",
        "–",
    ]
)
TEXTS = st.lists(PARTS, max_size=30).map("".join)


@given(text=TEXTS, data=st.data(), strip=st.booleans())
def test_any_cut_gives_what_the_whole_text_gives(text: str, data: st.DataObject, strip: bool) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = read([text], strip=strip)
    assert read(pieces, strip=strip) == whole
    assert read(list(text), strip=strip) == whole


@given(text=TEXTS)
def test_no_more_than_a_marker_is_held_back_and_nothing_else_is_lost(text: str) -> None:
    markers = Markers(SOURCES, strip=True)
    sent = ""
    for i, character in enumerate(text, 1):
        sent += markers.feed(character)
        rest = read([text[:i]], strip=True)[0]
        assert rest.startswith(sent)
        assert len(rest) - len(sent) <= LONGEST + 1
    kept, citations = read([text])
    assert kept == text
    stripped, taken = read([text], strip=True)
    assert [citation.number for citation in taken] == [citation.number for citation in citations]
    assert all(stripped[taken[i].start : taken[i].end] in ("", kept[c.start : c.end]) for i, c in enumerate(citations))
    removed = len(text) - len(stripped)
    spans = {(c.start, c.end) for c, t in zip(citations, taken, strict=True) if t.start == t.end}
    brackets = sum(end - start for start, end in spans)
    assert brackets <= removed <= brackets + len(spans)
