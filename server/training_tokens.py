"""How many tokens training files have, for the process that makes jobs of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.training.method import Kind

if TYPE_CHECKING:
    from adapters.training.data.counting import Counts
    from adapters.training.data.rendering import Renderer

COUNTING_SECONDS = 2.0  # of one file; beyond it tokens are estimated


class Tokens:
    """Reads and counts files as the base's tokenizer sees them; that is loaded when the first one comes."""

    def __init__(self, base: Callable[[], Path], context_tokens: int) -> None:
        """base: where the base model's files are."""
        self._base = base
        self._context_tokens = context_tokens

    def count(self, path: Path, kind: Kind) -> Counts:
        """Every line is read, tokens are counted or estimated. Raises DataInvalid."""
        from adapters.training.data.counting import count
        from adapters.training.data.reading import check

        check(path, kind)
        return count(path, kind, self._renderer, seconds=COUNTING_SECONDS)

    @cached_property
    def _renderer(self) -> Renderer:
        from adapters.training.data.rendering import Renderer  # transformers, seconds of work

        return Renderer(self._base(), context_tokens=self._context_tokens)
