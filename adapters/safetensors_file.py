"""A safetensors file, read without trusting its header: one tensor in memory at a time, numpy only.

Layout: 8 bytes (header length, little-endian), a JSON header {name: {dtype, shape, data_offsets}}, then the data.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from adapters.errors import AdapterRefused

WEIGHTS_FILE = "adapter_model.safetensors"
MAX_HEADER_BYTES = 32 << 20
MAX_DIMENSIONS = 8

FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # numpy has no bfloat16: its bits are read
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_INTEGERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "u1"}
_BYTES |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}

Floats = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One entry of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # bytes from the start of the file
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetensorsFile:
    """A file whose header was checked against its size."""

    path: Path
    tensors: Mapping[str, TensorInfo]

    @classmethod
    def open(cls, path: Path) -> SafetensorsFile:
        """Raises AdapterRefused: weights_missing, empty, truncated_file, lying_header, pickle_weights, lfs_pointer."""
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(8)
                _check_magic(path.name, head, size)
                header_bytes = int.from_bytes(head, "little")
                if header_bytes > MAX_HEADER_BYTES:
                    raise _lying(path.name, f"says that it is {header_bytes} bytes long")
                raw = file.read(header_bytes)
        except FileNotFoundError:
            raise AdapterRefused(
                "weights_missing", f"{path.name} is missing; save the adapter with PEFT's save_pretrained"
            ) from None
        if len(raw) < header_bytes:
            raise _truncated(path.name, 8 + header_bytes, size)
        return cls(path=path, tensors=_entries(path.name, raw, 8 + header_bytes, size))

    def read(self, name: str) -> Floats:
        """The whole tensor: float64 where stored so, else float32. Its dtype must be one of FLOATS."""
        info = self.tensors[name]
        count = math.prod(info.shape)
        stored = np.fromfile(self.path, dtype=FLOATS[info.dtype], count=count, offset=info.start)
        return _floats(stored, info.dtype).reshape(info.shape)

    def read_integers(self, name: str) -> NDArray[np.int64]:
        """The whole tensor of whole numbers, such as the places of the weights that an adapter changes."""
        info = self.tensors[name]
        if info.dtype not in _INTEGERS:
            raise AdapterRefused("wrong_dtype", f"{name!r} is {info.dtype}; save the adapter in {', '.join(FLOATS)}")
        count = math.prod(info.shape)
        stored = np.fromfile(self.path, dtype=_INTEGERS[info.dtype], count=count, offset=info.start)
        return stored.astype(np.int64).reshape(info.shape)

    def sample_rows(self, name: str, count: int) -> Floats:
        """At most `count` rows of a matrix, spread evenly over it: (rows, columns)."""
        info = self.tensors[name]
        n_rows, n_columns = info.shape
        matrix = np.memmap(self.path, dtype=FLOATS[info.dtype], mode="r", offset=info.start, shape=(n_rows, n_columns))
        step = max(1, math.ceil(n_rows / count))
        return _floats(np.array(matrix[::step]), info.dtype)


@contextmanager
def create(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, NDArray[np.float32]]]:
    """A new float32 file, filled tensor by tensor: yields writable views on the disk, so memory stays small."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        length = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + length]}
        offset += length
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # data is aligned to 8 bytes
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + offset)
    data = np.memmap(path, dtype="<f4", mode="r+", offset=8 + len(raw), shape=(offset // 4,))
    views = {
        name: data[entry["data_offsets"][0] // 4 : entry["data_offsets"][1] // 4].reshape(entry["shape"])
        for name, entry in header.items()
    }
    yield views
    data.flush()


def _check_magic(name: str, head: bytes, size: int) -> None:
    if size == 0:
        raise AdapterRefused("empty", f"{name} has no bytes; upload the file again")
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise AdapterRefused(
            "pickle_weights",
            f"{name} is a pickle under another name; save with save_pretrained(safe_serialization=True)",
        )
    if head == b"version ":
        raise AdapterRefused("lfs_pointer", f"{name} is a Git LFS pointer, not the weights; run `git lfs pull` first")
    if size < 8:
        raise _truncated(name, 8, size)


def _entries(name: str, raw: bytes, data_start: int, size: int) -> dict[str, TensorInfo]:
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except _Repeated as error:
        raise _lying(name, f"names {str(error)!r} twice") from error
    except (ValueError, RecursionError) as error:
        raise _lying(name, "is not JSON") from error
    if not isinstance(header, dict):
        raise _lying(name, "is not a JSON object")
    header.pop("__metadata__", None)
    tensors = {tensor: _entry(name, tensor, entry, data_start) for tensor, entry in header.items()}
    end = data_start
    for tensor, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != end:
            raise _lying(name, f"puts {tensor!r} {'over another tensor' if info.start < end else 'behind a gap'}")
        end = info.end
    if end > size:
        raise _truncated(name, end, size)
    if end < size:
        raise _lying(name, f"speaks of {end} bytes where the file has {size}")
    return tensors


def _entry(file: str, tensor: str, entry: object, data_start: int) -> TensorInfo:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not (isinstance(dtype, str) and _are_sizes(shape, at_most=MAX_DIMENSIONS) and _are_sizes(offsets, at_most=2)):
        raise _lying(file, f"has an entry for {tensor!r} that is not dtype, shape and data_offsets")
    if len(offsets) != 2:
        raise _lying(file, f"gives {tensor!r} {len(offsets)} data_offsets; there must be two")
    if dtype not in _BYTES:
        raise AdapterRefused("wrong_dtype", f"{tensor!r} has dtype {dtype!r}; save the adapter in {', '.join(FLOATS)}")
    start, end = offsets
    if end - start != math.prod(shape) * _BYTES[dtype]:
        raise _lying(file, f"gives {tensor!r} {end - start} bytes for shape {shape} of {dtype}")
    return TensorInfo(dtype=dtype, shape=tuple(shape), start=data_start + start, end=data_start + end)


def _are_sizes(value: Any, *, at_most: int) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= at_most
        and all(type(number) is int and 0 <= number < 1 << 62 for number in value)
    )


def _floats(stored: NDArray[Any], dtype: str) -> Floats:
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is float32's upper half
    if dtype == "F64":
        return stored.astype(np.float64)
    return stored.astype(np.float32)


class _Repeated(Exception):
    """A key stands twice in one JSON object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        raise _Repeated(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return seen


def _lying(name: str, what: str) -> AdapterRefused:
    return AdapterRefused("lying_header", f"the header of {name} {what}; save the adapter anew")


def _truncated(name: str, expected: int, size: int) -> AdapterRefused:
    return AdapterRefused(
        "truncated_file", f"{name} ends after {size} bytes of at least {expected}; copy or upload the file again"
    )
