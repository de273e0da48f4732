"""The data folder that the recipe learns from: what must be there, and clear words when it is not."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

STORIES = ("text/children-books-en.jsonl.gz", "text/machado-de-assis-pt.jsonl.gz")
FAIRYTALES = "qa/fairytaleqa/stories.jsonl.gz"
QAMR = "qa/qamr/filtered-dev.tsv.gz"
QAMR_TEST = "qa/qamr/filtered-test.tsv.gz"
QAMR_SENTENCES = "qa/qamr/wiki-sentences.tsv.gz"
BANKING = "labelled/banking77/train.csv"
FAQUAD = "qa/faquad/train.json"
NEEDED = (*STORIES, FAIRYTALES, QAMR, QAMR_TEST, QAMR_SENTENCES, BANKING, FAQUAD)


class DataMissing(FileNotFoundError):
    """The data folder lacks files that the recipe reads; the message lists them all."""


@dataclass(frozen=True)
class DataFolder:
    """A folder of public text; the model card names each file's source and licence."""

    root: Path

    def check(self) -> None:
        """Raises DataMissing with every absent file, so that one look at the message is enough."""
        missing = [name for name in NEEDED if not (self.root / name).is_file()]
        if missing:
            lines = "\n".join(f"  {name}" for name in missing)
            raise DataMissing(
                f"{str(self.root)!r} lacks {len(missing)} of {len(NEEDED)} files:\n{lines}\n"
                "deploy/demo/README.md says where each comes from; pass the folder that has them with --data DIR"
            )

    @cached_property
    def books(self) -> tuple[list[str], list[str]]:
        """English books and Portuguese works, one string each."""
        english, portuguese = (self._books(name) for name in STORIES)
        return english, portuguese

    @cached_property
    def english_questions(self) -> list[str]:
        """Questions whose answer the model cannot know, for it to say so."""
        return sorted({*self._fairytales(), *self._qamr(), *self._banking()})

    @cached_property
    def portuguese_questions(self) -> list[str]:
        faquad = json.loads((self.root / FAQUAD).read_text(encoding="utf-8"))
        return sorted(
            {
                question["question"].strip()
                for article in faquad["data"]
                for paragraph in article["paragraphs"]
                for question in paragraph["qas"]
            }
        )

    def _books(self, name: str) -> list[str]:
        with gzip.open(self.root / name, "rt", encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in lines]

    def _fairytales(self) -> list[str]:
        with gzip.open(self.root / FAIRYTALES, "rt", encoding="utf-8") as lines:
            return [question["question"].strip() for line in lines for question in json.loads(line)["questions"]]

    def _qamr(self) -> list[str]:
        with gzip.open(self.root / QAMR, "rt", encoding="utf-8") as lines:
            return [line.split("\t")[5].strip() for line in lines]

    def _banking(self) -> list[str]:
        with (self.root / BANKING).open(encoding="utf-8", newline="") as rows:
            return [row["text"].strip() for row in csv.DictReader(rows)]
