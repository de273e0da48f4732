"""The most memory that this process has used."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory_bytes(device: str) -> int:
    """Of the GPU where training is on one, else resident memory."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    return peak_resident_bytes()


def peak_resident_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Linux's high-water mark of this program; getrusage also counts what ran in the process before `exec`."""
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
