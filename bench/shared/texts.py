"""Documents out of the demo's own sentences, in any number and none like another: no corpus has to be fetched."""

from __future__ import annotations

import random
import re
from functools import cache

from server.settings import DEMO_DIR

SENTENCE_CHARACTERS = 30  # shorter ones are headings


def documents(n: int, *, sentences: int, seed: int) -> dict[str, str]:
    """Texts by name, the same for the same seed; another seed shares no paragraph with it."""
    dice = random.Random(seed)
    known = _sentences()
    return {f"{seed:04}-{number:04}": _document(dice, known, sentences, f"{seed}-{number}") for number in range(n)}


def _document(dice: random.Random, known: tuple[str, ...], sentences: int, name: str) -> str:
    chosen = [dice.choice(known) for _ in range(sentences)]
    # a number in each keeps its vector from being taken for one that was made before
    return "\n\n".join(f"Note {name}-{place}. {sentence}" for place, sentence in enumerate(chosen))


@cache
def _sentences() -> tuple[str, ...]:
    texts = [path.read_text() for path in sorted((DEMO_DIR / "documents").glob("*.md"))]
    found = [sentence.strip() for text in texts for sentence in re.split(r"(?<=[.!?])\s+|\n\n", text)]
    return tuple(sentence for sentence in found if len(sentence) > SENTENCE_CHARACTERS)
