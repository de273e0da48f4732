"""Checks that the formats share: which keys an object may have, and whose format a line is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from adapters.training.data.lines import named
from adapters.training.errors import DataInvalid
from adapters.training.method import KINDS, Kind

# a key that only one format has, and the method that reads it
_FORMATS: Mapping[str, tuple[str, tuple[Kind, ...]]] = {
    "preferred_output": ("preference data", ("dpo",)),
    "non_preferred_output": ("preference data", ("dpo",)),
    "messages": ("chat data", ("supervised", "prompt_tuning")),
    "text": ("plain text", ("continued_pretraining",)),
}
_OWN = {kind: {key for key, (_, kinds) in _FORMATS.items() if kind in kinds} for kind in KINDS}
# keys of formats that other trainers read, and what to write instead
_ELSEWHERE: Mapping[str, str] = {
    "chosen": 'write {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}',
    "rejected": 'write {"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}',
    "prompt": 'write {"messages": [{"role": "user", …}, {"role": "assistant", …}]}',
    "completion": 'write {"messages": [{"role": "user", …}, {"role": "assistant", …}]}',
    "instruction": "put `instruction` and `input` into a user's message and `output` into the assistant's",
    "conversations": 'rename it "messages", `from` to "role" (user, assistant) and `value` to "content"',
}


def check_keys(given: Mapping[str, Any], known: Collection[str], *, where: str, line: int) -> None:
    """Raises DataInvalid: unknown_key, with the name that was probably meant."""
    for key in given:
        if key not in known:
            near = get_close_matches(key[:64], known, n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise DataInvalid("unknown_key", line, f"{where} has an unknown key {key[:64]!r}; {meant}")


def check_format(given: Mapping[str, Any], kind: Kind, *, line: int) -> None:
    """Raises DataInvalid when the line's keys say that it is another format: other_method, other_format."""
    if not _OWN[kind].isdisjoint(given):
        return
    for key, (name, kinds) in _FORMATS.items():
        if key in given:
            method = " or ".join(f'"{kind}"' for kind in kinds)
            raise DataInvalid(
                "other_method",
                line,
                f"this looks like {name}, not data for {kind!r}; set method.type to {method}",
            )
    for key, way_out in _ELSEWHERE.items():
        if key in given:
            raise DataInvalid("other_format", line, f"{key!r} belongs to a format that is not read here; {way_out}")


def boolean(given: Mapping[str, Any], key: str, *, where: str, line: int) -> bool | None:
    """None where it is missing or null. Raises DataInvalid: wrong_type."""
    value = given.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise DataInvalid("wrong_type", line, f"{where}.{key} is {named(value)}; it must be true or false")
