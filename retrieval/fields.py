"""What clients send of stores and their files, read and checked: OpenAI's fields with OpenAI's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from retrieval.errors import FileInvalid, StoreInvalid
from retrieval.vector_store import AttributeValue, Chunking

LONGEST_NAME = 256
LONGEST_DESCRIPTION = 1_000
MOST_KEYS = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512
STORE_DAYS = (1, 365)
FILE_SECONDS = (3_600, 2_592_000)
CHUNK_TOKENS = (100, 4_096)


def read_name(raw: Any, param: str = "name") -> str:
    """A store's name; none is the empty one. Raises StoreInvalid."""
    if raw is None:
        return ""
    return _text(raw, param, LONGEST_NAME)


def read_description(raw: Any, param: str = "description") -> str | None:
    """Raises StoreInvalid."""
    return None if raw is None else _text(raw, param, LONGEST_DESCRIPTION)


def read_metadata(raw: Any, param: str = "metadata") -> dict[str, str]:
    """Up to 16 pairs of strings; none is the empty one. Raises StoreInvalid."""
    pairs = _pairs(raw, param)
    return {key: _text(value, f"{param}.{key}", LONGEST_VALUE) for key, value in pairs.items()}


def read_attributes(raw: Any, param: str = "attributes") -> dict[str, AttributeValue]:
    """Up to 16 strings, finite numbers or booleans; none is the empty one. Raises StoreInvalid."""
    return {key: _attribute(value, f"{param}.{key}") for key, value in _pairs(raw, param).items()}


def read_chunking(raw: Any, param: str = "chunking_strategy") -> Chunking | None:
    """OpenAI's chunking strategy; None where none is given. Raises StoreInvalid."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or raw.get("type") not in ("auto", "static"):
        raise StoreInvalid(f"{param} must be an object whose type is 'auto' or 'static'", param=param)
    kind = raw["type"]
    _refuse_others(raw, {"type", "static"} if kind == "static" else {"type"}, param)
    if kind == "auto":
        return Chunking()
    static = raw.get("static")
    inside = f"{param}.static"
    if not isinstance(static, Mapping):
        raise StoreInvalid(f"{inside} must be an object with the sizes in tokens", param=inside)
    names = ("max_chunk_size_tokens", "chunk_overlap_tokens")
    _refuse_others(static, set(names), inside)
    longest, overlap = (_whole(static.get(name), f"{inside}.{name}") for name in names)
    return check_chunking(Chunking(type="static", max_tokens=longest, overlap_tokens=overlap), param)


def check_chunking(chunking: Chunking, param: str = "chunking_strategy") -> Chunking:
    """The same, within OpenAI's limits. Raises StoreInvalid."""
    if chunking.type == "auto":
        return chunking
    least, most = CHUNK_TOKENS
    if not least <= chunking.max_tokens <= most:
        raise StoreInvalid(
            f"max_chunk_size_tokens is {chunking.max_tokens}; it must be {least} to {most}",
            param=f"{param}.static.max_chunk_size_tokens",
        )
    if not 0 <= chunking.overlap_tokens <= chunking.max_tokens // 2:
        raise StoreInvalid(
            f"chunk_overlap_tokens is {chunking.overlap_tokens}; it must be 0 to half of max_chunk_size_tokens, "
            f"which is {chunking.max_tokens // 2}",
            param=f"{param}.static.chunk_overlap_tokens",
        )
    return chunking


def read_expires_after(raw: Any, param: str = "expires_after") -> int | None:
    """Days after a store's last use, of `{anchor: last_active_at, days}`; None where none is given. StoreInvalid."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or raw.get("anchor") != "last_active_at":
        raise StoreInvalid(f"{param} must be an object with anchor 'last_active_at' and days", param=param)
    _refuse_others(raw, {"anchor", "days"}, param)
    return check_days(_whole(raw.get("days"), f"{param}.days"), f"{param}.days")


def check_days(days: int, param: str = "expires_after.days") -> int:
    """The same, within OpenAI's limits. Raises StoreInvalid."""
    least, most = STORE_DAYS
    if not least <= days <= most:
        raise StoreInvalid(f"days is {days}; it must be {least} to {most}", param=param)
    return days


def read_file_expires_after(anchor: Any, seconds: Any, param: str = "expires_after") -> int | None:
    """Seconds after a file's creation, from the two form fields; None where neither is given. Raises FileInvalid."""
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise FileInvalid(f"{param}[anchor] must be 'created_at'", param=f"{param}[anchor]")
    try:
        given = int(seconds)
    except (TypeError, ValueError):
        raise FileInvalid(f"{param}[seconds] must be a whole number", param=f"{param}[seconds]") from None
    return check_seconds(given, f"{param}[seconds]")


def check_seconds(seconds: int, param: str = "expires_after[seconds]") -> int:
    """The same, within OpenAI's limits. Raises FileInvalid."""
    least, most = FILE_SECONDS
    if not least <= seconds <= most:
        raise FileInvalid(f"{param} must be {least} to {most}", param=param)
    return seconds


def _pairs(raw: Any, param: str) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise StoreInvalid(f"{param} must be an object", param=param)
    if len(raw) > MOST_KEYS:
        raise StoreInvalid(f"{param} has {len(raw)} keys; it may have {MOST_KEYS}", param=param)
    for key in raw:
        if not _text(key, param, LONGEST_KEY):
            raise StoreInvalid(f"{param} has an empty key", param=param)
    return raw


def _attribute(value: Any, param: str) -> AttributeValue:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, param, LONGEST_VALUE)
    if isinstance(value, int | float) and _is_finite(value):
        return value
    raise StoreInvalid(f"{param} must be a string, a finite number or a boolean", param=param)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number with hundreds of digits
        return False


def _text(raw: Any, param: str, longest: int) -> str:
    if not isinstance(raw, str):
        raise StoreInvalid(f"{param} must be a string", param=param)
    if len(raw) > longest:
        raise StoreInvalid(f"{param} has {len(raw)} characters; it may have {longest}", param=param)
    if "\0" in raw or not is_encodable(raw):
        raise StoreInvalid(f"{param} holds a character that no text has (NUL or half of a pair)", param=param)
    return raw


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold it: JSON may bring halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole(raw: Any, param: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise StoreInvalid(f"{param} must be a whole number", param=param)
    return raw


def _refuse_others(raw: Mapping[str, Any], known: set[str], param: str) -> None:
    others = sorted(str(key)[:LONGEST_KEY] for key in raw.keys() - known)
    if others:
        raise StoreInvalid(f"{param} does not have {others[0]!r}; it has {sorted(known)}", param=param)
