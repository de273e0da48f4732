"""Recall of the dense index against comparing every vector, for each kind of index, with and without filters."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.retrieval.measures import percentile
from retrieval.embedding import Embedder
from retrieval.index.dense import DenseIndex
from retrieval.index.selection import Selection

K = 10
FILES = 1_000
QUESTIONS = 300
REAL_VECTORS = 4_000
NOISE = 0.5  # the noise's length beside the passage's own: neighbours stay neighbours
SHARES = (1.0, 0.5, 0.25, 0.1, 0.01)

Say = Callable[[str], None]
Vectors = NDArray[np.float32]


def measure(sentences: Sequence[str], questions: Sequence[str], n_chunks: int, say: Say) -> None:
    """One table for a store of so many chunks, each of one window."""
    dice, noise = random.Random(0), np.random.default_rng(0)
    embedder = Embedder()
    real = embedder.embed_documents(dice.sample(list(sentences), REAL_VECTORS))
    vectors = noisy(real[noise.integers(len(real), size=n_chunks)], noise)
    asked = embedder.embed_queries(dice.sample(list(questions), QUESTIONS))
    numbers = np.arange(n_chunks, dtype=np.int64) % FILES
    index = DenseIndex(vectors.shape[1])
    index.add(np.arange(n_chunks, dtype=np.int64), numbers, vectors)
    started = time.monotonic()
    while index.needs_tending():
        index.tend()
    built = time.monotonic() - started
    say(f"\n### Recall@{K} of {n_chunks} vectors: {index.kind} (built in {built:.0f} s)\n")
    say("| files allowed | recall | p50 ms | p99 ms |\n|---|---|---|---|")
    for share in SHARES:
        allowed = np.sort(noise.choice(FILES, size=max(1, int(share * FILES)), replace=False)).astype(np.int64)
        selection = None
        if share < 1:
            selection = Selection(numbers=allowed, excluded=np.setdiff1d(np.arange(FILES), allowed))
        rows = np.flatnonzero(np.isin(numbers, allowed))
        hits, seconds = 0, []
        for question in asked:
            started = time.perf_counter()
            found = index.search(question, K, selection)
            seconds.append(time.perf_counter() - started)
            exact = rows[np.argsort(-(vectors[rows] @ question), kind="stable")[:K]]
            assert len(found.ids) == K
            hits += len(np.intersect1d(found.ids, exact))
        p50, p99 = (1000 * percentile(seconds, share_of) for share_of in (0.5, 0.99))
        say(f"| {100 * share:g} % | {hits / (K * QUESTIONS):.4f} | {p50:.2f} | {p99:.2f} |")


def noisy(vectors: Vectors, noise: np.random.Generator) -> Vectors:
    """The vectors, each moved a little and of unit length again."""
    moved = vectors + NOISE * noise.standard_normal(vectors.shape, dtype=np.float32) / np.sqrt(vectors.shape[1])
    made: Vectors = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return made
