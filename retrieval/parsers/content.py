"""A file that is about to be read, and what it turned out to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Which file, of which kind, and its characters where the kind is a text."""

    path: Path
    kind: str  # a key of `retrieval.parsing.PARSERS`
    text: str = ""  # decoded, not cleaned yet; empty for kinds that are not plain text
