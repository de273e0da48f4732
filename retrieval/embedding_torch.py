"""sentence-transformers on torch: what every model can, and what other backends are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from retrieval.embedding_files import EmbedderMissing
from retrieval.embedding_tokens import Tokens

DEFAULT_WINDOW_TOKENS = 512  # of a model that names none

# Held while a model is loaded or traced. Meanwhile transformers replaces methods of its classes and torch's default
# dtype, for the whole process: when two threads do so at once, what is put back last may be a replacement, and every
# model that is loaded later has random weights in its tied layers.
one_model_at_a_time = Lock()


class Backend(Protocol):
    """What turns a batch of texts into vectors."""

    name: str
    dimensions: int
    tokens: Tokens

    def run(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        """Shape (len(texts), dimensions), of any length; `encodings` are `tokens`'. One caller at a time."""
        ...


class TorchBackend:
    """A loaded SentenceTransformer."""

    name = "torch"

    def __init__(self, folder: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        """`threads` holds for all of torch in this process. Raises EmbedderMissing for what cannot be loaded."""
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        self.model = _load(folder, device)
        dimensions = self.model.get_embedding_dimension()
        assert dimensions is not None
        self.dimensions: int = dimensions
        self.tokens = Tokens(_tokenizer(self.model, folder), window_tokens=_window_tokens(self.model))

    def run(self, texts: Sequence[str], encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        # prompt "": the prefix is in the text already
        made = self.model.encode(
            [self.tokens.seen(text) for text in texts],
            prompt="",
            batch_size=len(texts),
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(made, dtype=np.float32)


def _load(folder: Path, device: str) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of reading weights, which takes a moment
    try:
        with one_model_at_a_time:
            return SentenceTransformer(str(folder), device=device)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise EmbedderMissing(f"the embedding model at {str(folder)!r} cannot be loaded: {error}") from error


def _tokenizer(model: Any, folder: Path) -> Tokenizer:
    found = model.tokenizer
    found = getattr(found, "backend_tokenizer", found)
    if not isinstance(found, Tokenizer):
        raise EmbedderMissing(
            f"the embedding model at {str(folder)!r} has no fast tokenizer (a tokenizer.json), which splitting needs"
        )
    return found


def _window_tokens(model: Any) -> int:
    window = model.max_seq_length
    return int(window) if window and window < 1_000_000 else DEFAULT_WINDOW_TOKENS  # "none" is a huge number there
