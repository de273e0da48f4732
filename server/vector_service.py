"""Where the vectors of large stores are kept: in this process, or in Milvus when the settings name one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.settings import Settings

if TYPE_CHECKING:
    from retrieval.search import FarVectors


class LibraryMissing(RuntimeError):
    """A setting needs a library that is not installed."""


def far_vectors(settings: Settings) -> FarVectors | None:
    """Milvus, which nobody has connected to yet; None for this process. Raises LibraryMissing."""
    if not settings.vector_url:
        return None
    try:
        from retrieval.index.milvus_index import MilvusVectors
        from retrieval.index.milvus_service import Milvus
    except ModuleNotFoundError as error:
        raise LibraryMissing(
            f"MANYHATS_VECTOR_URL needs {error.name!r}, which is not installed; run: pip install 'manyhats[milvus]'"
        ) from error
    token = settings.vector_token
    return MilvusVectors(Milvus(settings.vector_url, "" if token is None else token.get_secret_value()))
