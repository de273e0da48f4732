from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from adapters import safetensors_file
from adapters.errors import AdapterRefused
from adapters.safetensors_file import SafetensorsFile


def written(path: Path, header: Any, data: bytes = b"\0" * 32) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def entry(start: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


LIES = [
    ({"a": entry(0, 16), "b": entry(8, 32)}, "over another"),
    ({"a": entry(0, 16), "b": entry(20, 32)}, "behind a gap"),
    ({"a": entry(4, 32)}, "behind a gap"),
    ({"a": entry(0, 16)}, "speaks of"),
    ({"a": entry(0, 32, [9])}, "for shape"),
    ({"a": entry(0, 32, [-8])}, "dtype, shape and data_offsets"),
    ({"a": entry(0, 32, [8.0])}, "dtype, shape and data_offsets"),
    ({"a": entry(0, 32, [1] * 9)}, "dtype, shape and data_offsets"),
    ({"a": entry(32, 0, [8])}, "for shape"),
    ({"a": {"dtype": "F32", "shape": [8]}}, "dtype, shape and data_offsets"),
    ({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0]}}, "must be two"),
    ({"a": 5}, "dtype, shape and data_offsets"),
    (
        b'{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}',
        "'a' twice",
    ),
    (b'{"a":{"dtype":"F32","shape":[8],"shape":[8],"data_offsets":[0,32]}}', "'shape' twice"),
    (b"[1]", "not a JSON object"),
    (b"{", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"\xff\xfe", "not JSON"),
]


@pytest.mark.parametrize(("header", "words"), LIES, ids=range(len(LIES)))
def test_a_header_that_lies_is_refused(tmp_path, header, words):
    with pytest.raises(AdapterRefused, match="save the adapter anew") as refused:
        SafetensorsFile.open(written(tmp_path / "x", header))
    assert refused.value.kind == "lying_header"
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"abc", "truncated_file"),
        ((100).to_bytes(8, "little") + b"{}", "truncated_file"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "lying_header"),
        (b"PK\x03\x04" + b"\0" * 20, "pickle_weights"),
        (b"\x80\x02}q\x00.", "pickle_weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "lfs_pointer"),
    ],
)
def test_files_that_are_something_else(tmp_path, data, kind):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(AdapterRefused) as refused:
        SafetensorsFile.open(tmp_path / "x")
    assert refused.value.kind == kind


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.99])
def test_a_file_cut_short_is_told_from_a_lie(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(100, 10)}, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(AdapterRefused, match="upload the file again") as refused:
        SafetensorsFile.open(path)
    assert refused.value.kind == "truncated_file"


def test_every_float_type_is_read_as_torch_reads_it(tmp_path):
    torch.manual_seed(0)
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    tensors = {str(dtype): (torch.randn(7, 5) * 100).to(dtype) for dtype in dtypes}
    save_file(tensors, tmp_path / "x")
    file = SafetensorsFile.open(tmp_path / "x")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(file.read(name), tensor.double().numpy())
    np.testing.assert_array_equal(file.sample_rows("torch.bfloat16", 3), tensors["torch.bfloat16"].float().numpy()[::3])


def test_what_is_created_is_read_by_the_library(tmp_path):
    with safetensors_file.create(tmp_path / "x", {"a": (2, 3), "b": (4, 1)}) as views:
        views["a"][:] = np.arange(6).reshape(2, 3)
        views["b"][:] = 7
    loaded = load_file(tmp_path / "x")
    np.testing.assert_array_equal(loaded["a"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(loaded["b"], np.full((4, 1), 7))
    assert SafetensorsFile.open(tmp_path / "x").tensors["b"].shape == (4, 1)
