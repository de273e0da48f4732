"""A passage chosen for one answer, and one that was found but left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from retrieval.search import Hit

Reason = Literal["room", "duplicate", "control_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage in the prompt, under its number."""

    number: int  # from 1, as the model writes it: [1]
    hit: Hit

    def as_object(self) -> dict[str, Any]:
        """As the `retrieval` object of answers has it, without `cited`."""
        passage = self.hit.passage
        return {
            "number": self.number,
            "file_id": passage.file_id,
            "filename": passage.filename,
            "chunk_id": passage.chunk_id,
            "page": passage.page,
            "heading": list(passage.heading),
            "start": passage.start,
            "end": passage.end,
            "score": self.hit.score,
            "text": passage.text,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A passage that was found and is not in the prompt."""

    file_id: str
    filename: str
    chunk_id: int
    page: int | None
    score: float
    reason: Reason

    @classmethod
    def of(cls, hit: Hit, reason: Reason) -> Dropped:
        """A hit left out; `room` is what did not fit, `duplicate` what another source says already."""
        passage = hit.passage
        return cls(
            file_id=passage.file_id,
            filename=passage.filename,
            chunk_id=passage.chunk_id,
            page=passage.page,
            score=hit.score,
            reason=reason,
        )

    def as_object(self) -> dict[str, Any]:
        """As the `retrieval` object of answers has it."""
        return {
            "file_id": self.file_id,
            "filename": self.filename,
            "chunk_id": self.chunk_id,
            "page": self.page,
            "score": self.score,
            "reason": self.reason,
        }
