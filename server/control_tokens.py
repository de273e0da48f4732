"""Retrieved text made harmless: nothing in a passage can become a control token, a turn's border or a citation.

A passage is compared with what is dangerous in a folded form, in which all that a tokenizer's normalizer could fold or
drop is folded and dropped: case, compatibility forms, accents, what is invisible. Where a dangerous string begins, its
first character gives way to a visible substitute that no dangerous string has. So no occurrence is left, nothing new
can arise from what stays, and all other text stays as it is, byte for byte.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from server.grounding import FENCE

NAME = r"[\w!-;=?-{}~]"  # what may stand within <| and |>: no space, none of these three, no substitute
# Role markers of the common chat templates in folded form, by their first character: what may follow it.
# Plain words such as `User:` are ordinary text; they are broken where the served template has them (`turn_markers`).
MARKERS: Mapping[str, Sequence[str]] = {
    "<": (
        rf"\|{NAME}{{1,64}}\|?>",  # ChatML, Qwen, Llama 3, Phi, Zephyr, Command R
        r"\|[\w ]{1,64}\|>",  # DeepSeek, whose bars and underscores fold to these
        rf"{NAME}{{1,64}}\|>",
        r"/?s>",  # sentencepiece's
        r"[be]os(?:_token)?>",
        r"</?sys>>",  # Llama 2
        r"(?:start|end|begin)_of_\w{1,32}>",  # Gemma
        r"/?(?:tools?|tool_calls?|tool_responses?|function_calls?|think)>",  # Hermes, Qwen, the demo
    ),
    "[": (
        r"/?(?:inst|available_tools|tool_calls|tool_results|tool_content|system_prompt)\]",  # Llama 2, Mistral
        r"\|[\w ]{1,64}\|\]",  # EXAONE
        r" ?\d+(?: ?[-–,;] ?\d+){0,32} ?\]",  # the numbers of sources
    ),
}
# What stands there instead. None of them has a compatibility form; the first that no control string has is taken.
SUBSTITUTES = {"<": "‹❮⧼", "[": "⟦❲⁅", "{": "❴⦃", "(": "⟮❨", "|": "¦∣", '"': "”„", "'": "’‚", "#": "♯"}
CLOSING = {"⟦": "⟧", "❲": "❳", "⁅": "⁆"}
SEPARATORS = "·•※¤§¶†‡"
SHAPELESS = "\u115f\u1160\u3164\uffa0\ufffd"  # letters that show nothing, and what stands for broken bytes
FEW_WORDS = 32
LONGEST_TITLE = 200  # characters


class Breaker:
    """Breaks one tokenizer's control strings, and the markers that are common, in untrusted text."""

    def __init__(self, strings: Iterable[str] = ()) -> None:
        """strings: the tokenizer's special and added tokens, and the template's own markers."""
        given = {string for string in strings if string}
        folded = {_fold_all(string).strip() for string in given} - {""}
        used = frozenset().union(*folded, *given)
        self._separator = _first_free(SEPARATORS, used)
        self._substitutes = {char: _first_free(f"{some}{SEPARATORS}", used) for char, some in SUBSTITUTES.items()}
        self._single = {string for string in folded if len(string) == 1}
        self._starts = _starts(folded | {_fold_all(FENCE)})
        unseen = sorted((string for string in given if not _fold_all(string)), key=len, reverse=True)
        self._unseen = re.compile("|".join(map(re.escape, unseen))) if unseen else None
        bracket = self._substitutes["["]
        closing = CLOSING.get(bracket, "]")
        self._closing = closing if closing not in used else "]"
        self._half_broken = re.compile(rf"({re.escape(bracket)}[\d ,;–-]+)[]］]")

    def text(self, passage: str) -> str:
        """The passage as it may stand in a prompt; takes time in proportion to its length."""
        if self._unseen is not None:
            passage = self._unseen.sub(self._separator, passage)
        folded = passage.translate(_FOLDS)
        starts = [match.start() for match in self._starts.finditer(folded)]
        if not starts:
            return passage
        pieces, done = [], 0
        for place in _places(passage, folded, starts):
            pieces += [passage[done:place], self._substitute(passage[place])]
            done = place + 1
        broken = "".join([*pieces, passage[done:]])
        return self._half_broken.sub(rf"\1{self._closing}", broken)  # ⟦1⟧ reads better than ⟦1]

    def title(self, filename: str) -> str:
        """A file's name as it may stand above a passage: one line, and not a long one."""
        line = " ".join("".join(char if char.isprintable() else " " for char in filename).split())
        if len(line) > LONGEST_TITLE:
            line = f"{line[:LONGEST_TITLE]}…"
        return self.text(line)

    def _substitute(self, char: str) -> str:
        folded = _FOLDS[ord(char)]
        if folded in self._substitutes:
            return self._substitutes[folded]
        if len(folded) == 1 and folded not in self._single:
            return f"{char}{self._separator}"  # a letter stays, and the string is cut behind it
        return self._separator


@lru_cache(maxsize=8)
def breaker(strings: tuple[str, ...]) -> Breaker:
    """The breaker for an engine's `control_strings`, made once."""
    return Breaker(strings)


def control_vocabulary(added: Mapping[str, int], special: Mapping[str, int]) -> dict[str, int]:
    """The control tokens among a tokenizer's added and special ones, with their ids.

    Runs of whitespace are none, though some tokenizers add them. Nor are plain words where there are many: then they
    are a vocabulary that somebody has extended, and breaking them would break every sentence.
    """
    shown = {string: number for string, number in {**added, **special}.items() if _fold_all(string) != " "}
    words = {s for s in shown if s not in special and all(char.isalnum() or char in " ▁" for char in s)}
    if len(words) <= FEW_WORDS:
        words = set()
    return {string: number for string, number in shown.items() if string and string not in words}


def turn_markers(prompt: str, contents: Sequence[str]) -> tuple[str, ...]:
    """What a chat template writes around turns, as control strings.

    prompt: a rendered conversation; contents: what its turns say, in their order. Only pieces that look like markers
    are taken: `<|user|>`, `[INST]`, `### Response:`, `USER:`.
    """
    found: dict[str, None] = {}
    for gap in _gaps(prompt, contents):
        found |= dict.fromkeys(_BRACKETED.findall(gap))
        if word := _LAST_WORD.search(gap):
            found[word.group(1)] = None
    return tuple(found)


_BRACKETED = re.compile(r"<[^<>\s]{1,64}>|<<[^<>\s]{1,64}>>|\[[^\[\]\s]{1,64}\]")
_LAST_WORD = re.compile(r"((?:#{1,6} ?)?[^\W\d]\w*:)\s*$")


def _gaps(prompt: str, contents: Sequence[str]) -> Iterator[str]:
    done = 0
    for content in contents:
        place = prompt.find(content, done)
        if place < 0:  # a template that leaves out a turn, such as an earlier answer
            continue
        yield prompt[done:place]
        done = place + len(content)
    yield prompt[done:]


class _Folds(dict[int, Any]):
    """For str.translate: a character's folded form, found once."""

    def __missing__(self, code: int) -> str:
        folded = self[code] = _folded(chr(code))
        return folded


def _folded(char: str) -> str:
    """Caseless, in compatibility form, without accents and what is invisible; whitespace is one kind of space."""
    once = unicodedata.normalize("NFKD", char).casefold()
    return "".join(map(_kept, unicodedata.normalize("NFKD", once)))


def _kept(char: str) -> str:
    if char in "\t\n\r▁":
        return " "
    if unicodedata.category(char)[0] in "CM" or char in SHAPELESS:
        return ""
    return " " if char.isspace() else char


_FOLDS = _Folds()


def _fold_all(text: str) -> str:
    return re.sub(" +", " ", text.translate(_FOLDS))


def _first_free(options: str, used: frozenset[str]) -> str:
    """The first of some characters that no control string has."""
    return next((option for option in options if option not in used), options[-1])


def _starts(strings: set[str]) -> re.Pattern[str]:
    """Where any of the strings or markers begins; one character is consumed, so that overlapping ones are all found."""
    by_first: dict[str, list[str]] = {}
    for string in sorted(strings):
        by_first.setdefault(string[0], []).append(string[1:])
    branches = []
    for first in sorted({*by_first, *MARKERS}):
        rests = by_first.get(first, [])
        if "" in rests:
            branches.append(re.escape(first))
            continue
        choices = [*MARKERS.get(first, ()), *([_any_of(rests)] if rests else [])]
        branches.append(f"{re.escape(first)}(?={'|'.join(choices)})")
    return re.compile("|".join(branches))


def _any_of(strings: Sequence[str]) -> str:
    """A pattern for any of the strings, as a tree: thousands of them are compared in one walk."""
    if "" in strings:
        return ""  # the shortest decides: only where one begins matters
    by_first: dict[str, list[str]] = {}
    for string in strings:
        by_first.setdefault(string[0], []).append(string[1:])
    branches = []
    for first, rests in by_first.items():
        pattern = " {0,4}" if first == " " else re.escape(first)  # a normalizer may drop it, or make more of it
        branches.append(f"{pattern}{_any_of(rests)}")
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _places(passage: str, folded: str, starts: Sequence[int]) -> Iterator[int]:
    """Which characters of the passage the folded positions come from, ascending, none twice."""
    if len(passage) == len(folded) and passage.isascii():  # each is one character or none, so all are one
        yield from starts
        return
    ends = list(accumulate(map(len, map(_FOLDS.__getitem__, map(ord, passage)))))
    last = -1
    for start in starts:
        place = bisect_right(ends, start)
        if place != last:
            yield place
            last = place
