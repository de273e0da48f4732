"""Public corpora with questions and judgements, read from a folder that the user gives."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents by id, and questions with the documents that answer them (id → gain)."""

    name: str
    language: str
    documents: Mapping[str, str]
    questions: tuple[tuple[str, Mapping[str, int]], ...]

    def sentences(self) -> list[str]:
        """Of all documents, those long enough to say something."""
        return [s for text in self.documents.values() for s in re.split(r"(?<=[.!?])\s+", text) if len(s) > 30]


class CorpusMissing(Exception):
    """The folder does not hold the corpus; the message says where it comes from."""


def scifact(data: Path) -> Corpus:
    """BEIR's SciFact, 5,183 abstracts and the 300 test claims: https://github.com/allenai/scifact (CC BY 4.0)."""
    folder = data / "retrieval" / "scifact"
    corpus = _present(folder / "corpus.jsonl.gz", "https://github.com/allenai/scifact")
    documents = {row["_id"]: f"{row['title']}\n\n{row['text']}" for row in _rows(corpus)}
    asked = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl.gz")}
    gains: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels-test.tsv").read_text().splitlines()[1:]:
        question, document, gain = line.split("\t")
        gains.setdefault(question, {})[document] = int(gain)
    questions = tuple((asked[question], judged) for question, judged in gains.items())
    return Corpus(name="SciFact", language="English", documents=documents, questions=questions)


def scifact_claims(data: Path) -> list[str]:
    """All of SciFact's claims: questions that were not asked before, so that no cache knows them."""
    return [row["text"] for row in _rows(data / "retrieval" / "scifact" / "queries.jsonl.gz")]


def faquad(data: Path) -> Corpus:
    """FaQuAD, 249 paragraphs and 900 questions: https://github.com/liafacom/faquad (CC BY 4.0)."""
    path = _present(data / "qa" / "faquad" / "dataset.json", "https://github.com/liafacom/faquad")
    documents: dict[str, str] = {}
    questions = []
    for article in json.loads(path.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            name = f"{len(documents):03}"
            documents[name] = paragraph["context"]
            questions += [(question["question"], {name: 1}) for question in paragraph["qas"]]
    return Corpus(name="FaQuAD", language="Portuguese", documents=documents, questions=tuple(questions))


def _present(path: Path, source: str) -> Path:
    if not path.is_file():
        raise CorpusMissing(f"{path} is missing; it comes from {source}")
    return path


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
