"""What the parsers behind markitdown have in common: how a converter is called, and what of its Markdown is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Links keep their words only: addresses would fill the embedder's window with what nobody asks for.
OPTIONS: dict[str, Any] = {"strip": ["a"], "escape_underscores": False, "escape_asterisks": False}

_PICTURE = re.compile(r"!\[([^\[\]\n]*)\]\([^()\n]*\)")


def converted(converter: Callable[[], Any], path: Path) -> str:
    """The Markdown that one of markitdown's converters makes of a file: text and descriptions of pictures."""
    from markitdown import StreamInfo

    with path.open("rb") as stream:
        result = converter().convert(stream, StreamInfo(extension=path.suffix), **OPTIONS)
    return without_pictures(str(result.markdown))


def without_pictures(markdown: str) -> str:
    """The descriptions of pictures instead of their marks and file names."""
    return _PICTURE.sub(r"\1", markdown)
