"""The functions that an example offers, and the calls of them. https://platform.openai.com/docs/guides/function-calling"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from adapters.training.data.fields import boolean, check_keys
from adapters.training.data.lines import named, shown, strict_json
from adapters.training.errors import DataInvalid

Tool = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
# where schemas stand within a schema
_ONE = ("additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "items")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")


def tools_of(value: object, *, where: str, line: int) -> tuple[Tool, ...]:
    """The list as it was given; () where it is missing, null or empty. Raises DataInvalid: bad_tool, and of keys."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataInvalid("bad_tool", line, f"{where} is {named(value)}; it must be an array of tools")
    names: set[str] = set()
    for i, tool in enumerate(value):
        place = f"{where}[{i}]"
        name = _check_tool(tool, where=place, line=line)
        if name in names:
            raise DataInvalid("bad_tool", line, f"{place}: a second function is named {name!r}; rename one")
        names.add(name)
    return tuple(value)


def check_calls(value: object, functions: frozenset[str], *, where: str, line: int) -> list[str]:
    """The ids of an assistant's calls. functions: the names that are offered, empty where the example has no tools.

    Raises DataInvalid: bad_tool_call, bad_arguments, unknown_function, and of keys.
    """
    if not isinstance(value, list):
        raise DataInvalid("bad_tool_call", line, f"{where} is {named(value)}; it must be an array of calls")
    ids: list[str] = []
    for i, call in enumerate(value):
        place = f"{where}[{i}]"
        if not isinstance(call, dict):
            raise DataInvalid("bad_tool_call", line, f"{place} is {named(call)}; it must be an object")
        check_keys(call, ("id", "type", "function", "index"), where=place, line=line)
        if call.get("type", "function") != "function":
            raise DataInvalid(
                "bad_tool_call", line, f'{place}.type is {shown(call["type"])}; only "function" is trained'
            )
        call_id = call.get("id")
        if not isinstance(call_id, str) or not call_id:
            raise DataInvalid(
                "bad_tool_call", line, f'{place} has no `id`; write one, such as "call_1", for its answer'
            )
        if call_id in ids:
            raise DataInvalid(
                "bad_tool_call", line, f"{place}.id {shown(call_id)} stands at two calls; give each its own"
            )
        _check_function(call.get("function"), functions, where=f"{place}.function", line=line)
        ids.append(call_id)
    return ids


def _check_tool(tool: object, *, where: str, line: int) -> str:
    if not isinstance(tool, dict):
        raise DataInvalid("bad_tool", line, f"{where} is {named(tool)}; it must be an object")
    check_keys(tool, ("type", "function"), where=where, line=line)
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise DataInvalid("bad_tool", line, f'{where} must be {{"type": "function", "function": {{"name": …}}}}')
    where += ".function"
    check_keys(function, ("name", "description", "parameters", "strict"), where=where, line=line)
    name = function.get("name")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise DataInvalid(
            "bad_tool", line, f"{where}.name is {shown(name)}; it must be 1 to 64 letters, digits, `_` or `-`"
        )
    description = function.get("description")
    if description is not None and not isinstance(description, str):
        raise DataInvalid("bad_tool", line, f"{where}.description is {named(description)}; it must be a string")
    boolean(function, "strict", where=where, line=line)
    parameters = function.get("parameters")
    if parameters is not None:
        wrong = "it must be an object" if not isinstance(parameters, dict) else _wrong(_canonical(parameters))
        if wrong is not None:
            raise DataInvalid("bad_tool", line, f"{where}.parameters is no JSON schema: {wrong}")
    return name


def _check_function(function: object, functions: frozenset[str], *, where: str, line: int) -> None:
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise DataInvalid("bad_tool_call", line, f'{where} must be {{"name": …, "arguments": "{{…}}"}}')
    check_keys(function, ("name", "arguments"), where=where, line=line)
    if functions and name not in functions:
        raise DataInvalid(
            "unknown_function",
            line,
            f"{where}.name is {shown(name)}; `tools` has {shown(', '.join(sorted(functions)))}",
        )
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        raise DataInvalid(
            "bad_arguments",
            line,
            f"{where}.arguments is {named(arguments)}; it must be a string with JSON in it, "
            'such as "{\\"day\\": \\"segunda\\"}"',
        )
    try:
        value = strict_json(arguments, line)
    except DataInvalid as error:
        raise DataInvalid("bad_arguments", line, f"{where}.arguments cannot be read: {error.message}") from None
    if not isinstance(value, dict):
        raise DataInvalid("bad_arguments", line, f"{where}.arguments hold {named(value)}; they must hold a JSON object")


def _canonical(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)


@lru_cache(maxsize=256)  # the same few tools stand on every line
def _wrong(canonical: str) -> str | None:
    schema = json.loads(canonical)
    if schema.get("type", "object") != "object":
        return f'its type is {shown(schema["type"])}; arguments are an object: "type": "object"'
    return _wrong_schema(schema, "parameters")


def _wrong_schema(schema: object, at: str) -> str | None:
    """What is wrong with a schema, in words; keywords that are not known are left to its readers."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"{at} is {named(schema)}; a schema is an object"
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"{at}.type is {shown(kind)}; known: {', '.join(sorted(_TYPES))}"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return f"{at}.required must be an array of names"
    if not isinstance(schema.get("enum", []), list):
        return f"{at}.enum must be an array"
    return _wrong_inner(schema, at)


def _wrong_inner(schema: Mapping[str, Any], at: str) -> str | None:
    inner: list[tuple[str, object]] = [(f"{at}.{key}", schema[key]) for key in _ONE if key in schema]
    for key in _MANY:
        if key in schema:
            if not isinstance(schema[key], list):
                return f"{at}.{key} must be an array of schemas"
            inner += [(f"{at}.{key}[{i}]", one) for i, one in enumerate(schema[key])]
    for key in _NAMED:
        if key in schema:
            if not isinstance(schema[key], dict):
                return f"{at}.{key} is {named(schema[key])}; it must be an object of schemas by name"
            inner += [(f"{at}.{key}.{name}", one) for name, one in schema[key].items()]
    for place, one in inner:
        if isinstance(one, list) and place.endswith(".items"):
            continue  # older drafts: a schema for each place
        if (wrong := _wrong_schema(one, place)) is not None:
            return wrong
    return None
