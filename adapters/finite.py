"""Whether weights are numbers that the base can compute with."""

from __future__ import annotations

import numpy as np

from adapters.errors import AdapterRefused
from adapters.safetensors_file import Floats

_LARGEST = {"float16": 65_504.0}
_LARGEST_FLOAT32 = 3.4e38


def check_finite(name: str, tensor: Floats, factor: float, dtype: str) -> None:
    """Raise AdapterRefused (nan_weights, inf_weights) for values that are none, also after `factor` and the dtype."""
    if np.isnan(tensor).any():
        raise AdapterRefused("nan_weights", f"{name!r} holds NaN; training diverged: take an earlier checkpoint")
    largest = float(np.abs(tensor).max())
    if np.isinf(largest):
        raise AdapterRefused("inf_weights", f"{name!r} holds infinity; training diverged: take an earlier checkpoint")
    if largest * factor > _LARGEST.get(dtype, _LARGEST_FLOAT32):
        raise AdapterRefused(
            "inf_weights",
            f"{name!r} holds {largest:g}, which is infinity in the base's {dtype}; take an earlier checkpoint, "
            "or serve the base with a wider dtype",
        )
