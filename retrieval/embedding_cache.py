"""Where converted models lie: each start but the first loads one from here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from retrieval.embedding_openvino import ConversionFailed, OpenVinoBackend, convert
from retrieval.embedding_torch import Backend, TorchBackend

logger = logging.getLogger(__name__)

FORMAT = "1"  # raised when what `convert` writes changes
DECIDING = ("openvino", "torch", "transformers", "sentence-transformers", "tokenizers")


def load_openvino(
    digest: str, cache: Path | None, load_torch: Callable[[], TorchBackend], threads: int | None
) -> Backend:
    """The converted model, converted now when the cache has none that works.

    `digest` is of the model's files. Without a cache it is converted at every start. Raises ConversionFailed.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="manyhats-embedder-") as folder:  # mapped, so it may go once loaded
            convert(load_torch(), Path(folder))
            return OpenVinoBackend(Path(folder), threads=threads)
    place = cache / f"{digest[:16]}-{_versions()}"
    if place.is_dir():
        try:
            return OpenVinoBackend(place, threads=threads)
        except ConversionFailed as error:
            logger.warning("the converted embedding model is made anew: %s", error)
            shutil.rmtree(place, ignore_errors=True)
    _fill(place, load_torch)
    return OpenVinoBackend(place, threads=threads)


def _fill(place: Path, load_torch: Callable[[], TorchBackend]) -> None:
    """Convert beside the place and move it there whole; another process that was faster has made the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".converting-", dir=place.parent))
    try:
        convert(load_torch(), folder)
        for old in place.parent.glob(f"{place.name.partition('-')[0]}-*"):
            if old != place:
                shutil.rmtree(old, ignore_errors=True)  # of earlier versions of the packages
        with suppress(OSError):  # it is there meanwhile
            folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _versions() -> str:
    installed = [f"{name}={importlib.metadata.version(name)}" for name in DECIDING]
    return hashlib.sha256("\n".join([FORMAT, *installed]).encode()).hexdigest()[:12]
