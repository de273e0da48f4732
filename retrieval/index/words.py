"""What becomes of text before it is taken apart into words: one form for what readers see as the same."""

from __future__ import annotations

import math
import re
import unicodedata

# languages (ISO 639-1) that tantivy has a stemmer for, by its name there
STEMMERS = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nb": "norwegian",
    "nl": "dutch",
    "nn": "norwegian",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
# Each character is a word in scripts that put no spaces between words: Thai to Khmer, kana, Chinese characters.
_SPACELESS = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def clean(text: str) -> str:
    """Composed letters, no compatibility forms, spaces where words end, and no lone surrogates, which are no text."""
    if text.isascii():
        return text
    text = _SPACELESS.sub(r" \1 ", unicodedata.normalize("NFKC", text))
    return text.encode("utf-8", "replace").decode()


def idf(n_with: int, n_chunks: int) -> float:
    """How much a word says that so many of the chunks have, as BM25 has it: most when none has it."""
    n_chunks = max(n_with, n_chunks)  # chunks that were removed are in the first number for a while
    return math.log(1 + (n_chunks - n_with + 0.5) / (n_with + 0.5))
