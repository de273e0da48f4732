"""A second look at the best hits by a cross-encoder, which reads question and passage together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.embedding_torch import one_model_at_a_time

BATCH = 16


class Reranker(Protocol):
    """Judges passages. Any thread may call it."""

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float64]:
        """How well each passage answers the question, from 0 to 1, shape (len(passages),)."""
        ...


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder with one output, whose sigmoid is the score."""

    def __init__(self, model: str) -> None:
        """Load a folder or a model hub's name; raises ValueError for a model with another number of outputs."""
        import torch
        from sentence_transformers import CrossEncoder

        with one_model_at_a_time:
            self._model: Any = CrossEncoder(model, device="cpu", activation_fn=torch.nn.Sigmoid())
        n_outputs = self._model.config.num_labels
        if n_outputs != 1:
            raise ValueError(f"{model!r} gives {n_outputs} numbers for a passage; a reranker gives 1")
        self._turn = threading.Lock()

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float64]:
        """Calls take turns; text beyond the model's window is not seen."""
        if not passages:
            return np.zeros(0)
        with self._turn:
            scores = self._model.predict(
                [(question, passage) for passage in passages],
                batch_size=BATCH,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        return np.asarray(scores, dtype=np.float64).reshape(len(passages))
