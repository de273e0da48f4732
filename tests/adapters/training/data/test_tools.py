from __future__ import annotations

from typing import Any

import pytest

from adapters.training.data.tools import check_calls, tools_of
from adapters.training.errors import DataInvalid


def tool(parameters: Any) -> list[Any]:
    return [{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": True}}]


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"type": "object", "properties": {}},
        {
            "properties": {"a": True, "b": {"type": ["string", "null"]}},
            "required": ["a"],
            "additionalProperties": False,
        },
        {"properties": {"a": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/b"}]}}}},
        {"$defs": {"b": {"enum": [1, "dois", None]}}, "properties": {"c": {"format": "x", "unheard-of": 1}}},
        {"properties": {"a": {"type": "array", "items": [{"type": "string"}, {"type": "number"}]}}},
    ],
    ids=str,
)
def test_schemas_that_are_right(parameters: Any) -> None:
    tools = tool(parameters)
    assert tools_of(tools, where="tools", line=1) == tuple(tools)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"properties": {"a": {"items": {"type": "int"}}}}, r"parameters\.properties\.a\.items\.type is 'int'"),
        ({"properties": {"a": "string"}}, r"parameters\.properties\.a is a string; a schema is an object"),
        ({"$defs": []}, r"parameters\.\$defs is an array"),
        ({"type": ["object"]}, "its type is"),
        ({"properties": {"a": {"allOf": [{"required": [1]}]}}}, r"allOf\[0\]\.required must be an array of names"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_schema_is_named_by_its_place(parameters: Any, says: str) -> None:
    with pytest.raises(DataInvalid, match=says):
        tools_of(tool(parameters), where="tools", line=1)


def test_the_ids_of_calls_are_given_back() -> None:
    calls = [{"id": name, "function": {"name": "f", "arguments": '{"a": {"b": 1}}'}} for name in "ab"]
    assert check_calls(calls, frozenset(), where="x", line=1) == ["a", "b"]
    assert check_calls(calls, frozenset({"f"}), where="x", line=1) == ["a", "b"]
