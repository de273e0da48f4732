"""What the server is compared with, over the same chunks: the bare embedder, and bare BM25."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

from retrieval.embedding_files import folder_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """Chunks in one list, each with the document that it is from."""

    texts: list[str]
    owners: list[str]

    @classmethod
    def of(cls, chunks: Mapping[str, Sequence[str]]) -> Flat:
        """One after the other."""
        pairs = [(text, name) for name, texts in chunks.items() for text in texts]
        return cls(texts=[text for text, _ in pairs], owners=[name for _, name in pairs])

    def ranked(self, scores: NDArray[np.float32], limit: int) -> list[str]:
        """Documents by their best chunk."""
        best = np.argsort(-scores, kind="stable")[: 4 * limit]
        return list(dict.fromkeys(self.owners[i] for i in best))[:limit]


def bare_embedder(model: str, flat: Flat, questions: Sequence[str], limit: int) -> tuple[list[list[str]], float]:
    """Rankings by cosine, and the seconds that one `encode(chunks, batch_size=32)` in float32 took."""
    from sentence_transformers import SentenceTransformer

    encoder: Any = SentenceTransformer(str(folder_of(model)), device="cpu")
    encoder.encode(flat.texts[:64], batch_size=32)  # the first batches of a process are slower
    started = time.monotonic()
    vectors = encoder.encode(flat.texts, batch_size=32, normalize_embeddings=True)
    seconds = time.monotonic() - started
    asked = encoder.encode(list(questions), batch_size=32, normalize_embeddings=True)
    return [flat.ranked(vectors @ one, limit) for one in asked], seconds


def bare_bm25(flat: Flat, questions: Sequence[str], limit: int) -> list[list[str]]:
    """Rankings by bm25s as it comes: Lucene's formula, its own tokenizer without stemming or stop words."""
    retriever = bm25s.BM25(k1=1.2, b=0.75)
    retriever.index(bm25s.tokenize(flat.texts, stopwords=None, show_progress=False), show_progress=False)
    rankings = []
    for question in questions:
        tokens = bm25s.tokenize([question], stopwords=None, return_ids=False, show_progress=False)
        scores = retriever.get_scores(tokens[0])
        rankings.append(flat.ranked(np.asarray(scores, dtype=np.float32), limit))
    return rankings
