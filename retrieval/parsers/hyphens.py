"""Words that were broken at the end of a line, put together again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_BROKEN = re.compile(r"([^\W\d_]+)([-\u2010\u00ad])[ \t]*\n[ \t]*([^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*(?![-\u2010\u00ad]?[ \t]*\n)")
# In Portuguese these follow a verb after a hyphen that belongs to the word: "disse-me", "vê-lo"
_PRONOUNS = frozenset(
    ("me", "te", "se", "lhe", "lhes", "nos", "vos", "o", "a", "os", "as", "lo", "la", "los", "las", "no", "na")
)


class Hyphens:
    """Knows the words of a document, and so which hyphens at line ends are part of a word.

    A soft hyphen is never one. A hard one is, where the document elsewhere writes the word with it more often than
    without, or where a Portuguese pronoun follows; else the word was whole: "docu-ment" becomes "document". Capitals
    after it ("Anglo-Saxon") and digits ("2019-2020") keep it. Nothing but hyphen and line break is ever taken out.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._words: Counter[str] = Counter()
        for text in texts:
            self._words.update(word.lower().replace("\u2010", "-") for word in _WORD.findall(text))

    def joined(self, text: str) -> str:
        """The text with broken words on one line."""
        return _BROKEN.sub(self._join, text)

    def _join(self, broken: re.Match[str]) -> str:
        before, hyphen, after = broken.groups()
        if hyphen == "\u00ad":
            return before + after
        if not after[0].islower():
            return f"{before}-{after}"
        whole = self._words[(before + after).lower()]
        hyphenated = self._words[f"{before}-{after}".lower()]
        if hyphenated > whole or (not whole and after in _PRONOUNS):
            return f"{before}-{after}"
        return before + after
