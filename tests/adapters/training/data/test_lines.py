from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training.data.lines import MAX_DEPTH, Line, lines, shown, strict_json, text_of
from adapters.training.errors import DataInvalid


def test_lines_know_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = b"\xef\xbb\xbfum\r\n\n  tr\xc3\xaas"
    path.write_bytes(content)
    found = list(lines(path))
    assert [(line.number, line.raw) for line in found] == [(1, b"um"), (2, b""), (3, b"  tr\xc3\xaas")]
    assert [content[line.start : line.end] for line in found] == [line.raw for line in found]


def test_a_wrong_byte_is_named_with_its_own_line_also_within_a_document() -> None:
    with pytest.raises(DataInvalid, match=r"byte 3 of the line \(0xe9\)") as refused:
        text_of(Line(10, 0, 99, b"um\ndois\ntr\xe9s"))
    assert refused.value.line == 12


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, true, null]}', {"a": [1, 2.5, True, None]}),
        ('"\\ud83d\\udc4d"', "👍"),  # two halves make one
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, None),
        ('"' + "[" * 1000 + '"', "[" * 1000),  # brackets in a string are no depth
        ('{"a": {"k": 1}, "b": {"k": 1}}', {"a": {"k": 1}, "b": {"k": 1}}),
    ],
)
def test_good_json_is_read(text: str, value: object) -> None:
    read = strict_json(text, 1)
    assert value is None or read == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('{"b": {"a": 1, "a": 1}}', "duplicate_key"),
        ("-Infinity", "not_finite"),
        ("[-1e400]", "not_finite"),
        ('{"\\udc00": 1}', "lone_surrogate"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "too_deep"),
        ('{"a": 1}{"a": 2}', "not_json"),
        ("{'a': 1}", "not_json"),
        ("", "not_json"),
    ],
)
def test_json_that_others_read_in_another_way_is_refused(text: str, kind: str) -> None:
    with pytest.raises(DataInvalid) as refused:
        strict_json(text, 4)
    assert (refused.value.kind, refused.value.line) == (kind, 4)


def test_what_is_shown_is_short() -> None:
    assert shown("Olá") == "'Olá'"
    assert shown([None, True]) == "[null, true]"
    assert len(shown("a" * 1000)) == 58
