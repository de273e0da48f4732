"""The models behind searches, as the settings name them."""

from __future__ import annotations

from retrieval.embedding import Embedder
from retrieval.rerank import CrossEncoderReranker, Reranker
from server.settings import Settings


def embedder_of(settings: Settings, *, load: bool = True) -> Embedder:
    """The embedder of the settings; with `load=False` it is loaded when it is first needed."""
    return Embedder(
        settings.embedder,
        backend=settings.embedder_backend,
        threads=settings.embedder_threads,
        cache=settings.embedder_cache_dir,
        load=load,
    )


def reranker_of(settings: Settings) -> Reranker | None:
    """The cross-encoder of the settings, loaded; None where they name none."""
    return CrossEncoderReranker(settings.reranker) if settings.reranker else None
