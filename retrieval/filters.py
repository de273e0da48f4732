"""Filters over the attributes of files: OpenAI's comparisons, and `and`/`or` of them.

Values are compared by their kind: text with text (by code points, so that ISO dates are in order), numbers with
numbers, true and false with themselves. What a file lacks, or has of another kind, is not equal, in no list, and
neither less nor greater: `eq`, `in`, `gt`, `gte`, `lt` and `lte` are false of it, `ne` and `nin` are true.
https://platform.openai.com/docs/api-reference/vector-stores/search
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from retrieval.errors import FilterInvalid
from retrieval.vector_store import Attributes, AttributeValue

Order = Literal["gt", "gte", "lt", "lte"]
ComparisonType = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
CompoundType = Literal["and", "or"]

MAX_DEPTH = 16
MAX_COMPARISONS = 256
MAX_VALUES = 2_000  # of `in` and `nin`
MAX_KEY_CHARACTERS = 64  # as long as an attribute's name may be
MAX_VALUE_CHARACTERS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One attribute with one value, or with several for `in` and `nin`."""

    type: ComparisonType
    key: str
    value: AttributeValue | tuple[AttributeValue, ...]

    def matches(self, attributes: Attributes) -> bool:
        """Whether a file with these attributes passes."""
        has = attributes.get(self.key)
        if isinstance(self.value, tuple):
            return any(_same(has, value) for value in self.value) is (self.type == "in")
        if self.type == "eq":
            return _same(has, self.value)
        if self.type == "ne":
            return not _same(has, self.value)
        return has is not None and _kind(has) is _kind(self.value) and _in_order(self.type, has, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compound:
    """All of several filters, or any of them."""

    type: CompoundType
    filters: tuple[Filter, ...]

    def matches(self, attributes: Attributes) -> bool:
        """Whether a file with these attributes passes."""
        every = all if self.type == "and" else any
        return every(part.matches(attributes) for part in self.filters)


Filter: TypeAlias = Comparison | Compound


def parse_filter(raw: Any) -> Filter:
    """A filter as clients write it; raises FilterInvalid, which says where in it and what would work."""
    left = [MAX_COMPARISONS]
    return _filter(raw, "filters", 1, left)


def _filter(raw: Any, where: str, depth: int, left: list[int]) -> Filter:
    if depth > MAX_DEPTH:
        raise FilterInvalid(f"{where} is nested too deep: at most {MAX_DEPTH} levels", param="filters")
    if not isinstance(raw, Mapping):
        raise FilterInvalid(f"{where} must be an object with a `type`, not {_shown(raw)}", param="filters")
    kind = raw.get("type")
    if kind in get_args(CompoundType):
        return _compound(raw, where, depth, left)
    if kind in get_args(ComparisonType):
        left[0] -= 1
        if left[0] < 0:
            raise FilterInvalid(f"filters has more than {MAX_COMPARISONS} comparisons", param="filters")
        return _comparison(raw, where)
    known = ", ".join((*get_args(ComparisonType), *get_args(CompoundType)))
    raise FilterInvalid(f"{where}.type must be one of {known}; not {_shown(kind)}", param="filters")


def _compound(raw: Mapping[str, Any], where: str, depth: int, left: list[int]) -> Compound:
    _only(raw, {"type", "filters"}, where)
    parts = raw.get("filters")
    if not isinstance(parts, list | tuple) or not parts:
        raise FilterInvalid(f"{where}.filters must be a list of at least one filter", param="filters")
    filters = (_filter(part, f"{where}.filters[{i}]", depth + 1, left) for i, part in enumerate(parts))
    return Compound(type=raw["type"], filters=tuple(filters))


def _comparison(raw: Mapping[str, Any], where: str) -> Comparison:
    _only(raw, {"type", "key", "value"}, where)
    key = raw.get("key")
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise FilterInvalid(
            f"{where}.key must be an attribute's name, of 1 to {MAX_KEY_CHARACTERS} characters; not {_shown(key)}",
            param="filters",
        )
    if "value" not in raw:
        raise FilterInvalid(f"{where}.value is missing", param="filters")
    value = raw["value"]
    if raw["type"] not in ("in", "nin"):
        return Comparison(type=raw["type"], key=key, value=_value(value, raw["type"], f"{where}.value"))
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_VALUES:
        raise FilterInvalid(
            f"{where}.value must be a list of 1 to {MAX_VALUES} values for {raw['type']!r}", param="filters"
        )
    values = tuple(_value(one, "eq", f"{where}.value[{i}]") for i, one in enumerate(value))
    return Comparison(type=raw["type"], key=key, value=values)


def _value(value: Any, kind: str, where: str) -> AttributeValue:
    if isinstance(value, bool) and kind in get_args(Order):
        raise FilterInvalid(f"{where} must be a number or text for {kind!r}, not {_shown(value)}", param="filters")
    if isinstance(value, float) and not math.isfinite(value):
        raise FilterInvalid(f"{where} must be a finite number", param="filters")
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
        raise FilterInvalid(f"{where} has more than {MAX_VALUE_CHARACTERS} characters", param="filters")
    if isinstance(value, bool | int | float | str):
        return value
    raise FilterInvalid(f"{where} must be text, a number, true or false; not {_shown(value)}", param="filters")


def _only(raw: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(str(key) for key in raw.keys() - known)
    if unknown:
        raise FilterInvalid(f"{where} has an unknown key {_shown(unknown[0])}; known: {sorted(known)}", param="filters")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return "null" if value is None else repr(value)[:80]


def _kind(value: AttributeValue) -> type:
    if isinstance(value, bool):
        return bool
    return str if isinstance(value, str) else float


def _same(has: AttributeValue | None, value: AttributeValue) -> bool:
    return has is not None and _kind(has) is _kind(value) and has == value


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "gt": lambda has, value: has > value,
    "gte": lambda has, value: has >= value,
    "lt": lambda has, value: has < value,
    "lte": lambda has, value: has <= value,
}


def _in_order(kind: str, has: AttributeValue, value: AttributeValue) -> bool:
    return _COMPARED[kind](has, value)
