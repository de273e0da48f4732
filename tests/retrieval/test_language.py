"""Portuguese and English are told apart, by file and by passage."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from retrieval.language import language_of, languages_of

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
FAQUAD = DATA / "qa" / "faquad" / "train.json"
SCIFACT = DATA / "retrieval" / "scifact" / "corpus.jsonl.gz"

PORTUGUESE = "A universidade oferece cursos de graduação, mestrado e doutorado em várias áreas do conhecimento humano."
ENGLISH = "The university offers undergraduate, master's and doctoral programmes in many areas of human knowledge."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (PORTUGUESE, "pt"),
        (ENGLISH, "en"),
        ("Ação não é opção.", "pt"),
        ("La universidad ofrece cursos de grado y posgrado en muchas áreas.", "es"),
        ("Die Universität bietet Studiengänge in vielen Fächern an.", "de"),
        ("大学は多くの分野で課程を提供している。", "ja"),
        ("Университет предлагает программы во многих областях.", "ru"),
        ("", None),
        ("42 + 17 = 59", None),
        ("x1", None),
        ("\n" * 10_000, None),
    ],
)
def test_language_of(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_a_long_text_is_sampled_from_end_to_end() -> None:
    assert language_of("x. " * 300 + PORTUGUESE * 300) == "pt"
    assert language_of(PORTUGUESE * 20_000) == "pt"


def test_a_passage_has_its_file_s_language_unless_it_plainly_has_another() -> None:
    passages = [PORTUGUESE * 3, ENGLISH * 3, "Table of contents", "1 2 3"]
    assert languages_of(passages, file="pt") == ["pt", "en", "pt", "pt"]
    assert languages_of(passages, file=None) == ["pt", "en", None, None]


@pytest.mark.skipif(not FAQUAD.exists(), reason=f"{FAQUAD} is not here: data that the project does not ship")
def test_portuguese_paragraphs() -> None:
    paragraphs = [p["context"] for a in json.loads(FAQUAD.read_text())["data"] for p in a["paragraphs"]]
    assert len(paragraphs) > 100
    assert [text for text in paragraphs if language_of(text) != "pt"] == []


@pytest.mark.skipif(not SCIFACT.exists(), reason=f"{SCIFACT} is not here: data that the project does not ship")
def test_english_abstracts() -> None:
    with gzip.open(SCIFACT, "rt") as file:
        abstracts = [json.loads(line)["text"] for line, _ in zip(file, range(1000), strict=False)]
    assert [text for text in abstracts if language_of(text) != "en"] == []
