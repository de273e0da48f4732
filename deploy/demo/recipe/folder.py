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
BANKING_TEST = "labelled/banking77/test.csv"
FAQUAD = "qa/faquad/train.json"
TWEETS = ("labelled/afrisenti-pt/train.tsv", "labelled/afrisenti-pt/dev.tsv")
TWEETS_TEST = "labelled/afrisenti-pt/test.tsv"
SIMPLER = "labelled/porsimplessent/pss2_align_length_ori_nat.tsv"
TASKS = (*TWEETS, TWEETS_TEST, BANKING_TEST, SIMPLER)
NEEDED = (*STORIES, FAIRYTALES, QAMR, QAMR_TEST, QAMR_SENTENCES, BANKING, FAQUAD, *TASKS)


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

    def table(self, name: str) -> list[dict[str, str]]:
        """Rows of a file by its first line's names; between tabs a quotation mark is text, between commas it is not."""
        with (self.root / name).open(encoding="utf-8", newline="") as lines:
            if name.endswith(".tsv"):
                return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
            return list(csv.DictReader(lines))

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
        return [row["text"].strip() for row in self.table(BANKING)]
