from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.training.data.chat import Chat
from adapters.training.data.preference import Preference
from adapters.training.data.reading import Examples, check, read
from adapters.training.data.text import Text
from adapters.training.errors import DataInvalid
from adapters.training.method import KINDS, Kind
from tests.adapters.training.data import made_data as made
from tests.adapters.training.data.bad_data import BAD, Bad

ROWS: dict[Kind, list[made.Row]] = {
    "supervised": [*made.intents(), *made.answers(), made.conversation(), made.with_tools()],
    "prompt_tuning": made.answers(),
    "dpo": made.preferences(),
    "continued_pretraining": made.texts(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_good_files_are_read_whole_and_in_order(kind: Kind, tmp_path: Path) -> None:
    path = made.write(tmp_path / "a.jsonl", ROWS[kind])
    examples = read(path, kind)
    kinds = {"dpo": Preference, "continued_pretraining": Text}
    assert {type(example) for example in examples} == {kinds.get(kind, Chat)}
    assert [example.line for example in examples] == list(range(1, len(ROWS[kind]) + 1))
    assert check(path, kind) == len(examples)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_bad_line_is_refused_by_its_number(bad: Bad, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(bad.content)
    with pytest.raises(DataInvalid) as refused:
        read(path, bad.method)
    assert (refused.value.kind, refused.value.line) == (bad.kind, bad.line)
    assert bad.says in refused.value.message
    assert len(refused.value.message) < 400  # it goes into an answer over HTTP
    refused.value.message.encode()


def test_there_are_twenty_kinds_and_more() -> None:
    assert len({bad.kind for bad in BAD}) >= 20


def test_a_mark_at_the_start_line_ends_of_windows_and_blank_lines_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = made.jsonl(made.answers()).replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + rows.replace(b"\r\n", b"\r\n\r\n", 1) + b"\r\n  \r\n\n")
    assert [example.line for example in read(path, "supervised")] == [1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_one_by_one_is_as_all_at_once(kind: Kind, ends: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\n" + made.jsonl(ROWS[kind]).replace(b"\n", ends))
    examples = Examples(path, kind)
    assert examples[:] == read(path, kind)
    assert examples[-1] == read(path, kind)[-1]
    assert sum(examples.n_bytes(place) for place in range(len(examples))) == len(made.jsonl(ROWS[kind])) - len(examples)


def test_an_empty_file_has_no_examples_to_take_one_of(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(DataInvalid, match="no example"):
        Examples(tmp_path / "a.jsonl", "supervised")


def test_checking_holds_one_line_at_a_time(tmp_path: Path) -> None:
    row = made.jsonl([made.chat(made.user("a" * 10_000), made.assistant("b"))])
    path = tmp_path / "a.jsonl"
    path.write_bytes(row * 1000)
    check(path, "supervised")  # what is made once is there
    tracemalloc.start()
    try:
        assert check(path, "supervised") == 1000
        assert tracemalloc.get_traced_memory()[1] < 20 * len(row)
    finally:
        tracemalloc.stop()


# any bytes, JSON of any shape, and rows that are almost right
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "messages", "tools", "text", "type", "function", "name", "arguments", "id"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def _changed(data: st.DataObject, value: Any) -> Any:
    """The value with one thing within it replaced by anything, or left out."""
    if not isinstance(value, list | dict) or not value or data.draw(st.integers(0, 3)) == 0:
        return data.draw(_JSON)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = data.draw(st.sampled_from(keys))
    changed = value.copy()
    if data.draw(st.integers(0, 4)) == 0:
        del changed[key]
    else:
        changed[key] = _changed(data, value[key])
    return changed


def _reads_or_refuses(path: Path, content: bytes, kind: Kind) -> None:
    path.write_bytes(content)
    n_lines = content.count(b"\n") + 1
    try:
        examples = read(path, kind)
    except DataInvalid as error:
        line = error.line
        str(error).encode()
    else:
        line = examples[-1].line
    assert 0 <= line <= n_lines


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode), kind=st.sampled_from(KINDS))
def test_any_bytes_are_read_or_refused(content: bytes, kind: Kind, tmp_path: Path) -> None:
    _reads_or_refuses(tmp_path / "a", content, kind)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_any_change_of_good_rows_is_read_or_refused(data: st.DataObject, kind: Kind, tmp_path: Path) -> None:
    row = data.draw(st.sampled_from(ROWS[kind]))
    changed = json.dumps(_changed(data, row), ensure_ascii=data.draw(st.booleans()))
    _reads_or_refuses(tmp_path / "a", changed.encode(errors="surrogatepass"), kind)
