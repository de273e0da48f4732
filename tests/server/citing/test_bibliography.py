"""What a request says of its answer's form decides whether brackets in it are read."""

from __future__ import annotations

from typing import Any

import pytest

from server.citing.bibliography import Bibliography
from tests.server.citing.answers import retrieved

SCHEMA = {"type": "json_schema", "json_schema": {"name": "rows", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    ("body", "cited"),
    [
        ({}, [1]),
        ({"response_format": {"type": "text"}}, [1]),
        ({"text": {"format": {"type": "text"}}}, [1]),
        ({"response_format": {"type": "json_object"}}, []),
        ({"response_format": SCHEMA}, []),
        ({"structured_outputs": {"regex": r"\[1\]"}}, []),
        ({"text": {"format": {"type": "json_schema", "name": "rows", "schema": {}}}}, []),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, []),
    ],
)
@pytest.mark.parametrize("strip", [False, True])
def test_brackets_are_read_where_the_answer_s_form_is_free(body: dict[str, Any], cited: list[int], strip: bool) -> None:
    reader = Bibliography.of(retrieved(strip=strip), str, body).markers()
    text = reader.feed("a [1]") + reader.finish()
    assert reader.cited == cited
    assert text == ("a" if strip and cited else "a [1]")


@pytest.mark.parametrize(
    ("body", "echoed"),
    [
        ({"prompt": "Say", "echo": True}, "Say"),
        ({"prompt": "Say", "echo": False}, ""),
        ({"prompt": "Say"}, ""),
        ({"messages": [], "echo": True}, ""),
    ],
)
def test_a_prompt_is_repeated_where_the_request_says_so(body: dict[str, Any], echoed: str) -> None:
    assert Bibliography.of(retrieved(), str, body).echoed == echoed
