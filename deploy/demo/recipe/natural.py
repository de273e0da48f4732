"""Readings over sentences that people wrote: which of several answers the question?"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from server.grounding import Shown

from .folder import FAQUAD, QAMR, QAMR_SENTENCES, DataFolder
from .reading import NOT_SAID, Reading, marked
from .styles import Language

MOST_WORDS = 28
Pair = tuple[str, str]  # question, and the sentence that answers it
Show = Callable[[random.Random, Language, Sequence[str]], Shown]


class NaturalReadings:
    """Draws readings from QAMR (English) and FaQuAD (Portuguese)."""

    def __init__(self, data: DataFolder, qamr: str = QAMR) -> None:
        self.english = _qamr(data.root / qamr, data.root / QAMR_SENTENCES)
        self.portuguese = _faquad(data.root / FAQUAD)

    def draw(
        self, dice: random.Random, show: Show, *, answered: bool = True, language: Language | None = None
    ) -> Reading:
        """`show` lays sentences out as a source; without a language, three of four are English."""
        language = language or ("en" if dice.random() < 0.75 else "pt")
        pairs = self.english if language == "en" else self.portuguese
        question, sentence = dice.choice(pairs)
        sentences = [sentence] if answered else []
        n = dice.choice((1, 2, 3, 3))
        while len(sentences) < n + dice.randrange(3):
            other = dice.choice(pairs)[1]
            if other != sentence and other not in sentences:
                sentences.append(other)
        dice.shuffle(sentences)
        parts = [part for start in range(n) if (part := sentences[start::n])]
        sources = tuple(show(dice, language, part) for part in parts)
        if not answered:
            return Reading(question=question, sources=sources, answer=NOT_SAID.plain(language), language=language)
        number = next(number for number, part in enumerate(parts, 1) if sentence in part)
        return Reading(question=question, sources=sources, answer=marked(sentence, number), language=language)


def _qamr(questions: Path, sentences: Path) -> list[Pair]:
    with gzip.open(sentences, "rt", encoding="utf-8") as lines:
        text = dict(line.rstrip("\n").split("\t")[:2] for line in lines)
    with gzip.open(questions, "rt", encoding="utf-8") as lines:
        rows = [line.split("\t") for line in lines]
    return [
        (row[5].strip(), _written(text[row[0]]))
        for row in rows
        if row[0] in text and len(text[row[0]].split()) <= MOST_WORDS
    ]


def _written(tokens: str) -> str:
    """From the treebank's spaced tokens to a sentence."""
    text = tokens.replace("-LRB- ", "(").replace(" -RRB-", ")").replace("`` ", '"').replace(" ''", '"')
    return re.sub(r" ([.,;:?!%)]|'s\b|n't\b|')", r"\1", text)


def _faquad(path: Path) -> list[Pair]:
    found = []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            spans = [(m.start(), m.end()) for m in re.finditer(r"\S.+?(?:[.?!](?=\s|$)|$)", paragraph["context"])]
            for asked in paragraph["qas"]:
                place = asked["answers"][0]["answer_start"]
                for start, end in spans:
                    sentence = paragraph["context"][start:end]
                    if start <= place < end and len(sentence.split()) <= MOST_WORDS:
                        found.append((asked["question"].strip(), sentence))
    return found
