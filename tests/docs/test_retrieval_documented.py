"""docs/retrieval.md against the code: formats, failures, sizes, fields, error codes and metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry

from retrieval import errors
from retrieval.chunking import sizes
from retrieval.errors import ParseCode
from retrieval.fields import CHUNK_TOKENS
from retrieval.index.dense import GRAPH_ROWS, TAIL_ROWS
from retrieval.index.dense_state import EXACT_ROWS
from retrieval.index.words import STEMMERS
from retrieval.ingestion import BATCH_WINDOWS, MOST_ATTEMPTS
from retrieval.parsers import archives, assembly, json, pdf, recognition
from retrieval.parsing import PARSERS
from retrieval.scores import UNMEASURED, WEIGHTS
from retrieval.search import MOST_LOADED, RERANKED
from retrieval.vector_store import Chunking
from retrieval.windows import RESERVED_TOKENS
from server.asking import MOST_STORES, RETRIEVAL_FIELDS
from server.errors import STATUS
from server.folder import Found
from server.folder_origin import ID_DIGITS, Origin
from server.retrieval_metrics import RetrievalMetrics
from server.search_options import MOST_RESULTS
from server.source import Reason
from tests.docs.fences import ROOT

PAGE = (ROOT / "docs" / "retrieval.md").read_text()
READMES = ("README.md", "README.pt-BR.md")


def section(heading: str) -> str:
    """The text under one second-level heading."""
    return next(part for part in PAGE.split("\n## ") if part.startswith(f"{heading}\n"))


def first_cells(text: str) -> list[str]:
    """The names that a table's rows begin with."""
    return re.findall(r"^\| (`.+?`)(?: \||, )", text, re.MULTILINE)


def test_formats_are_the_parsers() -> None:
    assert first_cells(section("What is read")) == [f"`{kind}`" for kind in PARSERS]


def test_failures_have_openais_codes_and_every_code_is_told() -> None:
    assert {cell.strip("`") for cell in first_cells(section("What cannot be read"))} == set(get_args(ParseCode))


def test_a_folder_s_attributes_are_those_that_its_files_get(tmp_path: Path) -> None:
    found = Found(path="a.md", file=tmp_path / "a.md", digest="0")
    told = [cell.strip("`") for cell in first_cells(section("A folder"))]
    assert told == [*Origin.of(tmp_path).attributes_of(found)]
    assert f"{ID_DIGITS} hex digits" in section("A folder")


def test_error_codes_are_those_of_the_table_with_their_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", section("Errors"), re.MULTILINE)
    ours = [error for error in STATUS if error.__module__ == errors.__name__]
    known = {(STATUS[error].code, str(STATUS[error].status)) for error in ours}
    assert len(rows) == len(set(rows))
    assert set(rows) == {*known, ("disk_full", "507")}


def test_what_is_left_out_of_a_prompt_has_its_reasons() -> None:
    for reason in get_args(Reason):
        for text in (PAGE, *((ROOT / name).read_text() for name in READMES)):
            assert f"`{reason}`" in text


def test_fields_of_retrieval_are_all_there() -> None:
    rows = re.findall(r"^\| (.+?) \|", section("Retrieval on a request"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == RETRIEVAL_FIELDS


@pytest.mark.parametrize("window_tokens", [256, 512, 816])
def test_sizes_of_chunks(window_tokens: int) -> None:
    chunk, overlap = sizes(Chunking(), window_tokens=window_tokens)
    assert re.search(rf"^\| {window_tokens} tokens[^|]* \| {chunk} \| {overlap} \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("What cannot be read", f"{archives.MAX_MEMBERS:,} parts"),
        ("What cannot be read", f"over {archives.MAX_UNPACKED_BYTES // 10**9} GB"),
        ("What cannot be read", f"{recognition.MAX_TEXT_BYTES // 10**6} MB of plain text"),
        ("What cannot be read", f"{assembly.MAX_CHARACTERS // 10**6} million characters"),
        ("What cannot be read", f"{pdf.MAX_PAGES:,} pages"),
        ("What cannot be read", f"over {json.MAX_DEPTH} deep"),
        ("Chunks and windows", f"{RESERVED_TOKENS} tokens are reserved"),
        ("Chunks and windows", f"({CHUNK_TOKENS[0]} to {CHUNK_TOKENS[1]:,})"),
        ("Scores", f"w is {WEIGHTS['all-MiniLM-L6-v2'].languages['en']} in English"),
        ("Scores", f"{WEIGHTS['all-MiniLM-L6-v2'].others} in other languages"),
        ("Scores", f"not measured, {UNMEASURED.others}"),
        ("Scores", f"the {RERANKED} best"),
        ("Scores", f"({', '.join(sorted(STEMMERS.keys() - {'nb', 'nn'}))})"),
        ("Filters", f"{EXACT_ROWS:,} allowed windows"),
        ("Indexes", f"from {GRAPH_ROWS:,} windows"),
        ("Indexes", f"each further {TAIL_ROWS:,}"),
        ("Indexes", f"the {MOST_LOADED} stores"),
        ("The queue", f"at most {BATCH_WINDOWS} windows"),
        ("Retrieval on a request", f"up to {MOST_STORES} ids or names"),
        ("Retrieval on a request", f"1 to {MOST_RESULTS}"),
    ],
)
def test_figures_are_the_codes(heading: str, words: str) -> None:
    assert words in section(heading)


def test_attempts_are_told_in_words() -> None:
    assert MOST_ATTEMPTS == 5
    assert "five times in all" in section("The queue")


def test_metrics_are_all_there() -> None:
    registry = CollectorRegistry()
    RetrievalMetrics(registry)
    assert {metric.name for metric in registry.collect()} == set(re.findall(r"`(manyhats_\w+)`", section("Metrics")))
