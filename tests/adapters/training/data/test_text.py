from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training.data import text as plain
from adapters.training.data.reading import read
from adapters.training.data.text import Text, is_plain
from adapters.training.errors import DataInvalid
from tests.adapters.training.data import made_data as made


def test_both_ways_to_write_it_give_the_same_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(made.plain())
    rows = made.write(tmp_path / "a.jsonl", made.texts())
    told = [example.text for example in read(rows, "continued_pretraining") if isinstance(example, Text)]
    found = read(tmp_path / "a.txt", "continued_pretraining")
    assert [example.text for example in found if isinstance(example, Text)] == told
    assert [example.line for example in found] == [1, 6, 9, 12]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"um\n\ndois", ["um\n\ndois"]),  # paragraphs
        (b"um\n\n\ndois\n", ["um", "dois"]),
        (b"um\r\n\r\n \r\n\r\ndois\r\n", ["um", "dois"]),
        (b"\n\n\num\n\n\n\n\ndois\n\n\n", ["um", "dois"]),
        (b"um\n\x0cdois\ntr\xc3\xaas", ["um", "dois\ntrês"]),  # a form feed
        (b"\xef\xbb\xbfum\r\ndois", ["um\ndois"]),
        (b"  verso\n    recuado", ["  verso\n    recuado"]),
    ],
)
def test_documents_are_apart_by_two_blank_lines(content: bytes, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    found = read(path, "continued_pretraining")
    assert [example.text for example in found if isinstance(example, Text)] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"text": "a"}', False),
        (b'\n\n { "text": "a"}', False),
        (b"{\n", False),
        (b'{"text": "a"', False),  # broken JSON is not prose
        (b'[{"text": "a"}]', False),
        (b"[1] Introdu\xc3\xa7\xc3\xa3o", True),
        (b"{nome}, bom dia", True),
        (b"", True),
    ],
)
def test_json_lines_are_told_from_prose(content: bytes, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert is_plain(tmp_path / "a") is expected


def test_a_broken_first_line_is_an_error_and_not_prose(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"text": "a"\n{"text": "b"}\n')
    with pytest.raises(DataInvalid) as refused:
        read(tmp_path / "a", "continued_pretraining")
    assert (refused.value.kind, refused.value.line) == ("not_json", 1)


def test_a_long_document_goes_on_in_another_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "DOCUMENT_BYTES", 20)
    monkeypatch.setattr(plain, "MOST_BYTES", 40)
    (tmp_path / "a.txt").write_text("a" * 15 + "\n" + "b" * 15 + "\n\n" + "c" * 30 + "\n" + "d" * 15 + "\n" + "e" * 5)
    found = [example for example in read(tmp_path / "a.txt", "continued_pretraining") if isinstance(example, Text)]
    assert [example.text for example in found] == ["a" * 15 + "\n" + "b" * 15, "c" * 30 + "\n" + "d" * 15, "e" * 5]
    assert [example.line for example in found] == [1, 4, 6]
