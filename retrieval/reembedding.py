"""Embedding a store's chunks with another model, in the background: one small batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from retrieval.heavy import Heavy
from retrieval.ingestion import BATCH_WINDOWS, DocumentEmbedder, text_digest
from retrieval.reembedding_table import Lacking, ReembeddingJob, Reembeddings
from retrieval.vectors import Vectors
from retrieval.windows import windows_of

logger = logging.getLogger(__name__)

BATCH_CHUNKS = 32


class Reembedding:
    """Works off the table of stores that are embedded anew; one per process."""

    def __init__(
        self,
        table: Reembeddings,
        vectors: Vectors,
        embedder: DocumentEmbedder,
        *,
        holder: str,
        heavy: Heavy | None = None,
    ) -> None:
        self._table = table
        self._vectors = vectors
        self._embedder = embedder
        self._holder = holder
        self._heavy = heavy or Heavy()
        self._job: ReembeddingJob | None = None
        self._last: Lacking | None = None

    def step(self) -> bool:
        """Embed one batch of one store, or make its new vectors the store's; False when no store waits."""
        job = self._job or self._table.claim(self._holder, self._embedder.fingerprint)
        if job is None:
            return False
        lacking = self._table.lacking(job, BATCH_CHUNKS, after=self._last)
        if lacking:
            self._job, self._last = job, lacking[-1]
            if not self._table.add(job, self._embed(lacking)):
                self._let_go()
            return True
        self._let_go()
        if self._table.finish(job):
            logger.info("store %s has its new vectors", job.store_id)
        else:
            self._table.release(self._holder)  # a file that came meanwhile lacks them still: from the start again
        return True

    def _embed(self, lacking: Sequence[Lacking]) -> dict[int, list[str]]:
        """Each chunk's windows by what was embedded; the vectors are there when this returns."""
        windows = {chunk.chunk_id: self._windows(chunk.text) for chunk in lacking}
        digests = {chunk_id: [text_digest(text) for text in texts] for chunk_id, texts in windows.items()}
        texts = {text_digest(text): text for some in windows.values() for text in some}
        known = self._vectors.known(self._embedder.fingerprint, list(texts))
        missing = [digest for digest in texts if digest not in known]
        for start in range(0, len(missing), BATCH_WINDOWS):
            batch = missing[start : start + BATCH_WINDOWS]
            made = self._heavy.run(partial(self._embedder.embed_documents, [texts[digest] for digest in batch]))
            self._vectors.add(self._embedder.fingerprint, dict(zip(batch, made, strict=True)))
        return digests

    def _windows(self, text: str) -> list[str]:
        tokenizer = self._embedder.tokenizer
        encoding = tokenizer.encode(text, add_special_tokens=False)
        spans = windows_of(text, encoding, tokenizer, window_tokens=self._embedder.window_tokens)
        return [text[start:end] for start, end in spans]

    def _let_go(self) -> None:
        self._job = self._last = None
