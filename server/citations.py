"""Markers such as `[1]` in an answer: which sources it took something from, and where it says so.

A marker is one or more numbers in one pair of brackets, all of them numbers of sources: `[1]`, `[2, 3]`, `[1-3]`;
`[2][3]` are two. Anything else is text, and so is everything in Markdown code, where `a[1]` means something else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

LONGEST = 64  # characters of a marker; what is longer is text, so no more than this is ever held back
INSIDE = frozenset("0123456789 ,;-–")
NUMBER = r"[1-9][0-9]{0,3}"
SHAPE = re.compile(rf"\[ ?{NUMBER}(?: ?[-–] ?{NUMBER})?(?: ?[,;] ?{NUMBER}(?: ?[-–] ?{NUMBER})?)* ?\]")
RANGE = re.compile(rf"({NUMBER})(?: ?[-–] ?({NUMBER}))?")


@dataclass(frozen=True, slots=True)
class Citation:
    """One number of one marker. `start` and `end` are the marker's, in characters (code points) of the text as sent.

    They are the same where the marker was taken out: it stood there.
    """

    number: int
    start: int
    end: int


class Markers:
    """Reads one text in pieces, however it is cut, and finds the markers in it.

    With `strip` markers are taken out, each whole and with the blank before it; what may turn out to be one is held
    back until that is decided, at most `LONGEST` characters and the blank. Otherwise every piece goes on as it is.
    """

    def __init__(self, numbers: Collection[int], *, strip: bool = False, position: int = 0) -> None:
        """`numbers` are those of the sources there are; `position` is how much of the text was sent before."""
        self.citations: list[Citation] = []
        self._numbers = frozenset(numbers)
        self._strip = strip
        self._position = position  # in the text as sent, without what is held back
        self._settled: list[str] = []  # to be sent now
        self._blank = ""
        self._candidate = ""  # from the bracket on
        self._complete: list[int] = []  # the numbers of a candidate that is a marker, unless it is a link's text
        self._ticks = 0  # backticks in a row, so far
        self._fence = 0  # how many opened the code that this is in; 0 outside

    @property
    def cited(self) -> list[int]:
        """Numbers of the sources that the text cites, in the order of their first markers."""
        return list(dict.fromkeys(citation.number for citation in self.citations))

    def feed(self, piece: str) -> str:
        """The next piece of the text; returns what of the text is to be sent now."""
        if not self._strip and self._is_plain(piece):
            self._position += len(piece)
            return piece
        for character in piece:
            self._take(character)
        return self._sendable() if self._strip else piece

    def finish(self) -> str:
        """The text has ended; returns what was held back and is no marker."""
        if self._complete:
            self._cut_out()
        self._let_go()
        self._settle(self._blank)
        self._blank = ""
        return self._sendable()

    def _is_plain(self, piece: str) -> bool:
        nothing_open = not (self._candidate or self._ticks or self._fence)
        return nothing_open and "[" not in piece and "`" not in piece

    def _take(self, character: str) -> None:
        if self._complete:
            if character == "(":
                self._cite(self._complete, self._blank + self._candidate)  # a link stays a link
                self._blank, self._candidate, self._complete = "", "", []
            else:
                self._cut_out()
        elif self._candidate:
            if character in INSIDE and len(self._candidate) < LONGEST:
                self._candidate += character
                return
            if character == "]" and (numbers := self._read(f"{self._candidate}]")):
                self._candidate += "]"
                if self._strip:
                    self._complete = numbers
                else:
                    self._cite(numbers, self._candidate)
                    self._candidate = ""
                return
            self._let_go()
        self._follow_code(character)
        if character == "[" and not self._fence:
            self._candidate = "["
            return
        self._settle(self._blank)
        self._blank = ""
        if character == " " and self._strip:
            self._blank = " "
        else:
            self._settle(character)

    def _read(self, candidate: str) -> list[int]:
        """The numbers of a marker, none if it is not one."""
        if SHAPE.fullmatch(candidate) is None:
            return []
        numbers: list[int] = []
        for first, last in _ranges(candidate):
            if first not in self._numbers or last not in self._numbers or last < first:
                return []
            numbers += range(first, last + 1)
        return list(dict.fromkeys(numbers)) if self._numbers.issuperset(numbers) else []

    def _cite(self, numbers: list[int], text: str) -> None:
        self._settle(text)
        start = self._position - len(text.lstrip(" "))
        self.citations += [Citation(number, start, self._position) for number in numbers]

    def _cut_out(self) -> None:
        self.citations += [Citation(number, self._position, self._position) for number in self._complete]
        self._blank, self._candidate, self._complete = "", "", []

    def _let_go(self) -> None:
        """What looked like the beginning of a marker is text."""
        if self._candidate:
            self._settle(self._blank + self._candidate)
            self._blank = self._candidate = ""

    def _settle(self, text: str) -> None:
        self._position += len(text)
        if text and self._strip:
            self._settled.append(text)

    def _sendable(self) -> str:
        text = "".join(self._settled)
        self._settled.clear()
        return text

    def _follow_code(self, character: str) -> None:
        if character == "`":
            self._ticks += 1
            return
        if self._ticks:
            if not self._fence:
                self._fence = self._ticks
            elif self._ticks == self._fence or self._ticks > self._fence >= 3:
                self._fence = 0
            self._ticks = 0
        if character == "\n" and self._fence < 3:
            self._fence = 0  # a backtick that nothing closes is a backtick


def _ranges(candidate: str) -> Iterator[tuple[int, int]]:
    for first, last in RANGE.findall(candidate):
        yield int(first), int(last or first)
