"""A vector store, a file in one, and a batch of such files: OpenAI's objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["in_progress", "completed", "cancelled", "failed"]
AttributeValue = str | float | bool  # ints are kept as they come
Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How long chunks are, in the embedder's tokens. `auto` takes what fits the embedder."""

    type: Literal["auto", "static"] = "auto"
    max_tokens: int = 800  # meaningless for auto
    overlap_tokens: int = 400

    def as_object(self) -> dict[str, Any]:
        """As requests have it, and what the tables keep."""
        if self.type == "auto":
            return {"type": "auto"}
        static = {"max_chunk_size_tokens": self.max_tokens, "chunk_overlap_tokens": self.overlap_tokens}
        return {"type": "static", "static": static}

    def as_answer(self) -> dict[str, Any]:
        """OpenAI's `chunking_strategy` of a file, which is `static` or `other`, never `auto`: clients warn of that.

        The sizes of `auto` are the embedder's matter, not the file's.
        """
        return {"type": "other"} if self.type == "auto" else self.as_object()

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Chunking:
        """Back from `as_object`."""
        if stored["type"] == "auto":
            return cls()
        static = stored["static"]
        return cls(
            type="static",
            max_tokens=static["max_chunk_size_tokens"],
            overlap_tokens=static["chunk_overlap_tokens"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCounts:
    """Files of a store or batch by status."""

    in_progress: int = 0
    completed: int = 0
    cancelled: int = 0
    failed: int = 0

    def as_object(self) -> dict[str, int]:
        """With their sum."""
        counts = {name: getattr(self, name) for name in ("in_progress", "completed", "cancelled", "failed")}
        return {**counts, "total": sum(counts.values())}


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorStore:
    """https://platform.openai.com/docs/api-reference/vector-stores/object"""

    id: str
    owner: str
    name: str
    description: str | None
    metadata: Mapping[str, str]
    chunking: Chunking
    expires_days: int | None  # after the last search or change
    created_at: float  # Unix seconds
    last_active_at: float
    expires_at: float | None
    expired: bool
    generation: int
    fingerprint: str | None  # the embedder that its vectors are from; None while it has none
    usage_bytes: int = 0
    file_counts: FileCounts = field(default_factory=FileCounts)

    @property
    def status(self) -> Literal["expired", "in_progress", "completed"]:
        """`in_progress` while any of its files is."""
        if self.expired:
            return "expired"
        return "in_progress" if self.file_counts.in_progress else "completed"

    def as_object(self) -> dict[str, Any]:
        """OpenAI's vector store object."""
        after = None if self.expires_days is None else {"anchor": "last_active_at", "days": self.expires_days}
        return {
            "id": self.id,
            "object": "vector_store",
            "created_at": int(self.created_at),
            "name": self.name,
            "description": self.description,
            "usage_bytes": self.usage_bytes,
            "file_counts": self.file_counts.as_object(),
            "status": self.status,
            "expires_after": after,
            "expires_at": None if self.expires_at is None else int(self.expires_at),
            "last_active_at": int(self.last_active_at),
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFile:
    """https://platform.openai.com/docs/api-reference/vector-stores-files/file-object"""

    number: int  # of this attachment, given out once
    store_id: str
    file_id: str
    filename: str
    digest: str  # SHA-256 of the file's bytes
    batch_id: str | None
    created_at: float  # Unix seconds
    status: Status
    error_code: str | None
    error_message: str | None
    attributes: Attributes
    chunking: Chunking
    usage_bytes: int
    attempts: int
    starts: int
    chunks_done: int
    chunks_total: int

    def as_object(self) -> dict[str, Any]:
        """OpenAI's vector store file object, with `progress` and `filename` on top."""
        error = None if self.error_code is None else {"code": self.error_code, "message": self.error_message}
        return {
            "id": self.file_id,
            "object": "vector_store.file",
            "usage_bytes": self.usage_bytes,
            "created_at": int(self.created_at),
            "vector_store_id": self.store_id,
            "status": self.status,
            "last_error": error,
            "chunking_strategy": self.chunking.as_answer(),
            "attributes": dict(self.attributes),
            "filename": self.filename,
            "progress": {"chunks_done": self.chunks_done, "chunks_total": self.chunks_total},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBatch:
    """https://platform.openai.com/docs/api-reference/vector-stores-file-batches/batch-object"""

    id: str
    store_id: str
    created_at: float  # Unix seconds
    cancelled: bool
    file_counts: FileCounts

    def as_object(self) -> dict[str, Any]:
        """OpenAI's batch object; it has failed when every one of its files has."""
        counts = self.file_counts
        status = "completed"
        if counts.in_progress:
            status = "in_progress"
        elif self.cancelled:
            status = "cancelled"
        elif counts.failed and not counts.completed:
            status = "failed"
        return {
            "id": self.id,
            "object": "vector_store.files_batch",
            "created_at": int(self.created_at),
            "vector_store_id": self.store_id,
            "status": status,
            "file_counts": counts.as_object(),
        }
