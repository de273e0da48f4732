"""Greedy answers that need not be computed again: measuring goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from .answers import Messages

KEY_LETTERS = 24


class Memory:
    """Answers in a folder, each list under the digest of the weights that gave it and of all that was asked."""

    def __init__(self, folder: Path, weights: list[Path]) -> None:
        self._folder = folder
        self._weights = [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]

    def recall(self, asked: list[Messages], most_tokens: int, who: str, say: Callable[[], list[str]]) -> list[str]:
        """What `say` returns, or returned before; `who` tells apart what the same weights say in two ways."""
        whole = json.dumps([self._weights, asked, most_tokens, who])
        path = self._folder / f"{hashlib.sha256(whole.encode()).hexdigest()[:KEY_LETTERS]}.json"
        if path.is_file():
            kept: list[str] = json.loads(path.read_text(encoding="utf-8"))
            return kept
        said = say()
        self._folder.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
        new.replace(path)
        return said
