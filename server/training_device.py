"""Which device a fine-tuning job is computed on, decided before torch is loaded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, MutableMapping

FREE_SHARE = 0.8  # of a GPU's memory: less means that somebody works on it
QUERY = ("nvidia-smi", "--query-gpu=index,memory.free,memory.total", "--format=csv,noheader,nounits")
QUERY_SECONDS = 30

Ask = Callable[[], str]


def choose_device(
    asked: str, *, alone: bool, environ: MutableMapping[str, str] = os.environ, ask: Ask | None = None
) -> str:
    """`cpu` or `cuda`; of several GPUs only the chosen one is left visible to this process.

    asked: `cpu`, `cuda`, `cuda:1` or `auto`, which takes a GPU that is free, else the CPU. alone: no server started
    this, so that the first GPU need not be left to its engine, which may still be starting.
    """
    if asked == "cpu":
        return "cpu"
    visible = _visible(environ)
    if asked == "auto":
        number = _free(visible, (ask or _ask)(), leave=0 if alone else 1)
        if number is None:
            return "cpu"
    elif ":" not in asked:
        return "cuda"
    else:
        place = int(asked.partition(":")[2])
        number = visible[place] if visible is not None and place < len(visible) else str(place)
    # else transformers would share a batch out among all that it sees
    environ["CUDA_VISIBLE_DEVICES"] = number
    return "cuda"


def _visible(environ: Mapping[str, str]) -> list[str] | None:
    told = environ.get("CUDA_VISIBLE_DEVICES")
    return None if told is None else [part.strip() for part in told.split(",") if part.strip()]


def _free(visible: list[str] | None, answer: str, *, leave: int) -> str | None:
    """The first GPU with most of its memory free, but for the first `leave` of those that the server sees."""
    free = {}
    for line in answer.splitlines():
        number, left, total = (part.strip() for part in line.split(","))
        free[number] = left.isdigit() and total.isdigit() and int(left) >= FREE_SHARE * int(total)
    seen = list(free) if visible is None else visible
    return next((number for number in seen[leave:] if free.get(number)), None)


def _ask() -> str:
    """nvidia-smi's lines `index, free MiB, total MiB`; none where there is no such GPU."""
    try:
        told = subprocess.run(  # noqa: S603  # the command is fixed, and no shell reads it
            QUERY, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout
