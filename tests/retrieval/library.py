"""A database with passages in it and a searcher over it: what a benchmark does too, with other passages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.index.store_index import StoreIndex
from retrieval.index.tending import Tending
from retrieval.passage import Chunk
from retrieval.rerank import Reranker
from retrieval.search import Hit, Searcher, SearchOptions
from retrieval.vector_store import AttributeValue, StoreFile
from tests.retrieval.shelf import FINGERPRINT, Shelf

DIMENSIONS = 32
EMBEDDER = "all-MiniLM-L6-v2"


class Idle(Tending):
    """Does nothing by itself, so that tests say when."""

    def soon(self, index: StoreIndex) -> None:
        pass


class Library:
    """Puts passages into stores as ingestion does, and searches them."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self.shelf = shelf
        self.folder = folder
        self._made = 0

    def searcher(
        self, *, fingerprint: str = FINGERPRINT, reranker: Reranker | None = None, tending: Tending | None = None
    ) -> Searcher:
        """Over the shelf's database, its clock, and caches in `folder`; writes them only when it is closed."""
        return Searcher(
            self.shelf.database,
            self.folder,
            fingerprint=fingerprint,
            embedder_name=EMBEDDER,
            reranker=reranker,
            changes=self.shelf.changes,
            passages=self.shelf.passages,
            tending=tending or Idle(),
        )

    def store(self, name: str = "docs") -> str:
        return self.shelf.stores.create("ana", name=name).id

    def put(
        self,
        store_id: str,
        texts: Sequence[str],
        *,
        attributes: Mapping[str, AttributeValue] | None = None,
        language: str | None = "en",
        windows: Callable[[str], Sequence[str]] = lambda text: [text],
        fingerprint: str = FINGERPRINT,
        vectors: NDArray[np.float32] | None = None,
    ) -> StoreFile:
        """A file of these chunks, completed; `windows` says what is embedded of a chunk."""
        self._made += 1
        file = self.shelf.upload(f"file {self._made}")
        self.shelf.attachments.attach(store_id, file.id, attributes=dict(attributes or {}))
        job = self.shelf.queue.claim("test")
        assert job is not None
        made: dict[str, NDArray[np.float32]] = {}
        digests = []
        for position, text in enumerate(texts):
            pieces = windows(text)
            names = [hashlib.sha256(piece.encode()).hexdigest() for piece in pieces]
            given = [embedded(piece) for piece in pieces] if vectors is None else [vectors[position]]
            made |= dict(zip(names, given, strict=True))
            digests.append(names)
        self.shelf.vectors.add(fingerprint, made)
        chunks = [_chunk(text, position, language) for position, text in enumerate(texts)]
        assert self.shelf.queue.complete(job, chunks, digests, fingerprint)
        return self.shelf.attachments.get(store_id, file.id)


def found(
    searcher: Searcher, store_ids: str | Sequence[str], text: str, vector: object = None, **options: object
) -> list[Hit]:
    """A search with the question embedded as `embedded` does."""
    ids = [store_ids] if isinstance(store_ids, str) else store_ids
    asked = SearchOptions(**options)  # type: ignore[arg-type]  # tests name them one by one
    return searcher.search(ids, text, embedded(text), asked)


def texts_of(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.text for hit in hits]


def embedded(text: str) -> NDArray[np.float32]:
    """A unit vector in which texts with common words are near each other."""
    total = np.zeros(DIMENSIONS)
    for word in re.findall(r"\w+", text.lower()) or [""]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
        total += np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return (total / np.linalg.norm(total)).astype(np.float32)


def _chunk(text: str, position: int, language: str | None) -> Chunk:
    return Chunk(
        text=text,
        page=position + 1,
        heading=("Part",),
        start=position,
        end=position + len(text),
        language=language,
        tokens=len(text.split()),
        windows=((0, len(text)),),
    )
