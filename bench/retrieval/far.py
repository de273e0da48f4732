"""A search in Milvus beside one in this process, over the same vectors.

python -m bench.retrieval.far --url vectors.db --vectors 100000
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from retrieval.index.base import Names, VectorIndex
from retrieval.index.exact import ExactIndex
from retrieval.index.faiss_index import HnswIndex
from retrieval.index.milvus_index import MilvusVectors
from retrieval.index.milvus_service import Milvus

DIMENSIONS = 384
PER_FILE = 20  # vectors
K = 50  # candidates of a search for ten results


def main() -> None:
    """Print milliseconds per search, and what share of the exact answer is found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", required=True, help="as MANYHATS_VECTOR_URL")
    options.add_argument("--vectors", type=int, default=100_000)
    options.add_argument("--queries", type=int, default=20)
    options.add_argument("--no-graph", action="store_true", help="leave out FAISS's graph, which takes long to build")
    asked = options.parse_args()
    vectors, queries = made(asked.vectors, seed=1), made(asked.queries, seed=2)
    files = np.arange(asked.vectors) // PER_FILE
    masks = {
        "all": np.ones(asked.vectors, dtype=np.bool_),
        "half of the files": files % 2 == 0,
        "a hundredth": files % 100 == 0,
    }
    milvus = Milvus(asked.url, os.environ.get("MANYHATS_VECTOR_TOKEN", ""), seconds=120)
    far = MilvusVectors(milvus)
    store_id = f"vs_{os.urandom(12).hex()}"
    indexes: dict[str, VectorIndex] = {
        "exact": ExactIndex(DIMENSIONS),
        "FAISS HNSW": HnswIndex(DIMENSIONS),
        f"Milvus {milvus.address.index}": far.graphs(store_id, "0" * 16).new(DIMENSIONS),
    }
    if asked.no_graph:
        del indexes["FAISS HNSW"]
    try:
        for name, index in indexes.items():
            seconds = timed(lambda index=index: fill(index, vectors, files))
            print(f"{name}: {asked.vectors} vectors of {DIMENSIONS} added in {seconds:.0f} s", flush=True)
        exact = indexes["exact"]
        for mask_name, mask in masks.items():
            for name, index in indexes.items():
                measure(f"{name}, {mask_name}", index, exact, queries, mask)
    finally:
        far.drop(store_id)
        far.close()


def made(n: int, *, seed: int) -> NDArray[np.float32]:
    """Unit vectors in groups, as texts of several subjects are."""
    random = np.random.default_rng(seed)
    middles = np.random.default_rng(0).standard_normal((400, DIMENSIONS), dtype=np.float32)
    points = middles[random.integers(0, len(middles), n)]
    points += 0.7 * random.standard_normal((n, DIMENSIONS), dtype=np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def fill(index: VectorIndex, vectors: NDArray[np.float32], files: NDArray[np.int64]) -> None:
    """Add all; each file is a group."""
    for start in range(0, len(vectors), 10_000):
        rows = np.arange(start, min(start + 10_000, len(vectors)))
        index.add(vectors[rows], Names(rows, files[rows]))


def measure(
    name: str, index: VectorIndex, exact: VectorIndex, queries: NDArray[np.float32], allowed: NDArray[np.bool_]
) -> None:
    """A line of a table: the median time, and recall against comparing all."""
    times, recalls = [], []
    index.search(queries[0], K, allowed)  # the first finds everything cold
    for query in queries:
        start = time.perf_counter()
        found = index.search(query, K, allowed)
        if found is None:  # as a store's index does then
            rows = np.flatnonzero(allowed)
            ids = rows[np.argsort(-index.cosines(query, rows))[:K]]
        else:
            ids = found.ids
        times.append(1_000 * (time.perf_counter() - start))
        right = exact.search(query, K, allowed)
        assert right is not None
        recalls.append(len(np.intersect1d(ids, right.ids)) / len(right.ids))
    print(
        f"{name}: {np.median(times):.1f} ms (slowest {max(times):.0f}), recall@{K} {np.mean(recalls):.3f}", flush=True
    )


def timed(work: Callable[[], None]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
