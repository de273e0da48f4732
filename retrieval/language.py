"""Which language a text is in, by py3langid; a light model that comes with its package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

# The languages that documents are mostly in. Fewer means fewer mistakes: with all 140 of the model, a short
# Portuguese sentence is often called Galician, an English one Scots.
LANGUAGES = (
    *("ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "he", "hi"),
    *("hr", "hu", "hy", "id", "it", "ja", "ka", "ko", "lt", "lv", "mk", "ml", "mr", "nl", "no", "pl", "pt"),
    *("ro", "ru", "sk", "sl", "sq", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "zh"),
)
SAMPLE_CHARACTERS = 600  # the model reads byte by byte in Python: 0.1 ms for these
SAMPLES = 8  # of a long text
_MIN_LETTERS = 12
_MIN_PROBABILITY = 0.35  # below, "income tax" might as well be Italian
_SURE_LETTERS = 120  # a passage of so many letters may differ from its file
_SURE_PROBABILITY = 0.9
_NO_LETTER = re.compile(r"[\W\d_]+")


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of the language that most of a text is in; None where nothing can be said."""
    language, probability = _guess(_sample(text))
    return language if probability >= _MIN_PROBABILITY else None


def languages_of(passages: Sequence[str], *, file: str | None) -> list[str | None]:
    """The language of each passage of a file.

    It is the file's (`file`), except for passages that are long enough and plainly in another: an English
    bibliography after a Portuguese article.
    """
    found: list[str | None] = []
    for passage in passages:
        sample = passage[:SAMPLE_CHARACTERS]
        language, probability = _guess(sample)
        sure = probability >= _SURE_PROBABILITY and _letters(sample) >= _SURE_LETTERS
        found.append(language if sure else file)
    return found


def likelihood(text: str) -> tuple[str | None, float]:
    """The most likely language of a text and its probability among `LANGUAGES`; (None, 0) for too few letters."""
    return _guess(_sample(text))


def _guess(sample: str) -> tuple[str | None, float]:
    if _letters(sample) < _MIN_LETTERS and not _ideographic(sample):
        return None, 0.0
    language, probability = _identifier().classify(_NO_LETTER.sub(" ", sample))
    return str(language), float(probability)


def _letters(text: str) -> int:
    return len(_NO_LETTER.sub("", text))


def _ideographic(text: str) -> bool:
    """Whether a few characters are enough: kana, Hangul and Chinese characters say much each."""
    return sum(1 for character in text[:SAMPLE_CHARACTERS] if "\u3040" <= character <= "\ud7a3") >= 4


def _sample(text: str) -> str:
    """The whole of a short text; of a long one pieces from its beginning to its end."""
    if len(text) <= SAMPLE_CHARACTERS * 2:
        return text
    length = SAMPLE_CHARACTERS // 2
    step = (len(text) - length) // (SAMPLES - 1)
    return " ".join(text[start : start + length] for start in range(0, len(text) - length + 1, max(step, length)))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # late: half a second

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
