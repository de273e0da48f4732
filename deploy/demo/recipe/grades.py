"""How well the finished base reads, in figures for the model card."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from .answers import answers, user
from .documents import DocumentReadings, holding
from .folder import QAMR_TEST, DataFolder
from .natural import NaturalReadings
from .reading import NOT_SAID, FactReadings, Reading, marked
from .store import DocumentStore
from .styles import LANGUAGES

MARKER = re.compile(r" ?\[\d+\]")
READINGS, SOURCES, FACTS = 200, 3, 2  # at most two facts in each source
NOT_SAIDS = {NOT_SAID.plain(language) for language in LANGUAGES}


def grades(model: Any, words: PreTrainedTokenizerFast, data: DataFolder) -> dict[str, dict[str, float]]:
    """Shares of right answers: invented facts, the demo documents through a real search, sentences of Wikipedia."""
    return {
        "facts": _facts(model, words),
        "documents": documents(model, words),
        "natural": _natural(model, words, data),
    }


def _facts(model: Any, words: PreTrainedTokenizerFast) -> dict[str, float]:
    dice, facts = random.Random("grades"), FactReadings(held_out=True)
    told = [facts.draw(dice, n_sources=SOURCES, most_facts=FACTS) for _ in range(READINGS)]
    untold = [facts.draw(dice, n_sources=SOURCES, most_facts=FACTS, answered=False) for _ in range(READINGS)]
    said = _said(model, words, told)
    blind = answers(model, words, [[user(reading.question)] for reading in told])
    return {
        "value": _share(told, said, _has_value),
        "sentence": _share(told, said, _has_sentence),
        "marker": _share(told, said, _has_marker),
        "not said": _share(untold, _said(model, words, untold), lambda _, answer: answer in NOT_SAIDS),
        "value without sources": _share(told, blind, _has_value),
    }


def documents(model: Any, words: PreTrainedTokenizerFast) -> dict[str, float]:
    """`found`: a source has the sentence; `right`: it is the answer, with the marker of such a source."""
    readings = DocumentReadings()
    shares: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, closing(DocumentStore(Path(folder))) as store:
        for wording, place in (("trained wording", 0), ("other wording", -1)):
            asked = [
                Reading(
                    question=one.questions[place],
                    sources=store.sources(one.questions[place], SOURCES),
                    answer=one.sentence,
                    language=one.section.language,
                )
                for one in readings.asked
            ]
            said = _said(model, words, asked)
            shares[f"found, {wording}"] = _share(
                asked, said, lambda reading, _: bool(holding(reading.answer, reading.sources))
            )
            shares[f"right, {wording}"] = _share(asked, said, _is_right)
    return shares


def _natural(model: Any, words: PreTrainedTokenizerFast, data: DataFolder) -> dict[str, float]:
    dice, facts, natural = random.Random("grades"), FactReadings(held_out=True), NaturalReadings(data, QAMR_TEST)
    told = [natural.draw(dice, facts.shown, language="en") for _ in range(READINGS)]
    said = _said(model, words, told)
    return {"sentence": _share(told, said, _has_sentence), "marker": _share(told, said, _has_marker)}


def _said(model: Any, words: PreTrainedTokenizerFast, readings: Sequence[Reading]) -> list[str]:
    return answers(model, words, [[user(reading.prompt)] for reading in readings])


def _has_value(reading: Reading, answer: str) -> bool:
    return reading.value in answer


def _has_sentence(reading: Reading, answer: str) -> bool:
    return MARKER.sub("", answer) == MARKER.sub("", reading.answer)


def _has_marker(reading: Reading, answer: str) -> bool:
    return MARKER.findall(answer) == MARKER.findall(reading.answer)


def _is_right(reading: Reading, answer: str) -> bool:
    return answer in {marked(reading.answer, number) for number in holding(reading.answer, reading.sources)}


def _share(readings: Sequence[Reading], said: Sequence[str], right: Callable[[Reading, str], bool]) -> float:
    hits = [right(reading, answer) for reading, answer in zip(readings, said, strict=True)]
    return round(sum(hits) / len(hits), 3)
