"""An uploaded file: bytes under a name, somebody's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Purpose = Literal["assistants", "fine-tune", "user_data"]
PURPOSES: tuple[str, ...] = get_args(Purpose)
RESULTS = "fine-tune-results"  # the purpose of what the server itself adds; nobody uploads it


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """https://platform.openai.com/docs/api-reference/files/object"""

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    digest: str  # SHA-256 of the bytes
    created_at: float  # Unix seconds
    expires_at: float | None = None

    def as_object(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": int(self.created_at),
            "expires_at": None if self.expires_at is None else int(self.expires_at),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }
