"""Text as it may be stored, shown and put into a prompt: no NUL, no lone surrogates, NFC, tame white space."""

from __future__ import annotations

import re
import unicodedata

MAX_INDENT = 32  # columns; what is deeper only costs room

_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_LINE_BREAKS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
# Controls, soft hyphens, byte order marks, non-characters, and what is invisible and turns or hides text:
# directional overrides and tags. Nobody searches for them, and a reader could not see them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u2060\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_GAPS = re.compile(r"(?<=[^ \t\n])[ \t]{3,}")
_INDENTS = re.compile(rf"^[ \t]{{{MAX_INDENT + 1},}}", re.MULTILINE)
_LINE_ENDS = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{4,}")


def clean(text: str) -> str:
    """The same text without what cannot be seen; runs of blanks become two, of empty lines two, indents stay."""
    text = _LINE_BREAKS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = _SURROGATES.sub("\ufffd", text)
    text = _SPACES.sub(" ", text).translate(_LIGATURES)
    text = unicodedata.normalize("NFC", text)
    # Long runs go first: the pattern for ends of lines would take quadratic time on them.
    text = _GAPS.sub("  ", text)
    text = _INDENTS.sub(" " * MAX_INDENT, text)
    text = _LINE_ENDS.sub("", text)
    return _BLANK_LINES.sub("\n\n\n", text)
