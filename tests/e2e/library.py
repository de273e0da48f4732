"""Files about a town that does not exist, in a vector store, and a way to have the engine write markers for sure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from tokenizers import Tokenizer

from tests.retrieval import made_files as make

ROOT = Path(__file__).resolve().parents[2]

# what a function takes: calls beside sources are nothing that the demo's base was taught, so its words are prescribed
A_CITY: Any = {
    "type": "object",
    "properties": {"city": {"enum": ["Lumen", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
SKY = "What is the colour of the sky over Lumen?"
FERRY = "When does the ferry from Lumen to Korr leave?"
DOGS = "Which animals must not board the ferry on Sundays?"
BERTHS = [f"Berth {number} of the harbour is for boats of up to {number} metres." for number in range(60)]
FILES = {
    "lumen.md": b"# Lumen\n\nThe colour of the sky over Lumen is green.\n",
    "ferry.txt": b"The ferry from Lumen to Korr leaves at seven o'clock in the morning.\n",
    "rules.pdf": make.pdf(
        "\n".join(BERTHS[:30]), "\n".join([*BERTHS[30:], "Dogs must not board the ferry to Korr on Sundays."])
    ),
}
URL = "https://lumen.example/sky"
ATTRIBUTES: dict[str, dict[str, str | float | bool]] = {
    "lumen.md": {"about": "sky", "year": 2020, "url": URL},
    "ferry.txt": {"about": "ferry", "year": 2024},
    "rules.pdf": {"about": "ferry", "year": 2026},
}
SOON_MS = 50  # between two looks at a file that is read in less than a second
CONTROL = re.compile(r"<\|[^|]*\|>|</?s>")
MARKER = re.compile(r"\[[12]\]")  # all that `scribbling` can write
SCRIBBLES = ("[", "Ġ[", "1", "2", "]")
TRIES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The store, and the ids of its files by their names."""

    store_id: str
    file_ids: dict[str, str]

    @classmethod
    def made(cls, client: openai.OpenAI) -> Library:
        """Upload, and wait until all is read."""
        store = client.vector_stores.create(name="lumen")
        file_ids = {}
        for name, content in FILES.items():
            file = client.files.create(file=(name, content), purpose="assistants")
            read = client.vector_stores.files.create_and_poll(
                file.id, vector_store_id=store.id, attributes=ATTRIBUTES[name], poll_interval_ms=SOON_MS
            )
            assert read.status == "completed", read.last_error
            file_ids[name] = file.id
        return cls(store_id=store.id, file_ids=file_ids)

    @property
    def asked(self) -> dict[str, Any]:
        """The field `retrieval` of a request; two sources, so that both scribbled numbers are some."""
        return {"vector_store_ids": [self.store_id], "max_num_results": 2}

    @property
    def tool(self) -> Any:
        """The same as a tool of chat completions and Responses."""
        return {"type": "file_search", **self.asked}


def scribbling(seed: int) -> dict[str, Any]:
    """Sampling by which the engine writes brackets and the numbers 1 and 2 alone, so that markers come by chance."""
    tokenizer = Tokenizer.from_file(str(ROOT / "deploy" / "demo" / "base" / "tokenizer.json"))
    ids = [tokenizer.token_to_id(token) for token in SCRIBBLES]
    assert None not in ids
    bias = {str(number): 100 for number in ids}
    return {"logit_bias": bias, "frequency_penalty": 0.5, "temperature": 1.0, "seed": seed, "ignore_eos": True}


def retrieval(answer: Any) -> dict[str, Any]:
    """The `retrieval` object that an answer of the official clients carries."""
    found = answer.model_extra["retrieval"]
    assert isinstance(found, dict)
    return found
