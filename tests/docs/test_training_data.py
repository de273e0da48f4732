"""Every kind of bad data that the code knows has its row and its case, and no row is left of one that is gone."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.training.data.reading import read
from adapters.training.method import Kind
from tests.adapters.training.data.bad_data import BAD
from tests.docs.fences import ROOT, blocks

DOCUMENT = ROOT / "docs" / "training-data.md"
RENDERED = {"not_rendered", "nothing_fits", "nothing_to_train"}  # these need a base
METHODS: tuple[Kind, ...] = ("supervised", "dpo", "continued_pretraining")


def kinds() -> Iterator[str]:
    """The first argument of each refusal."""
    for path in (ROOT / "adapters" / "training").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DataInvalid":
                assert isinstance(node.args[0], ast.Constant), f"a kind that cannot be read: {path}:{node.lineno}"
                yield str(node.args[0].value)


def rows() -> list[str]:
    _, _, refusals = DOCUMENT.read_text().partition("## Kinds of refusals")
    return re.findall(r"^\| `(\w+)` \|", refusals, re.MULTILINE)


def test_rows_are_the_kinds() -> None:
    assert len(rows()) == len(set(rows()))
    assert set(rows()) == set(kinds())


def test_every_kind_has_a_file_that_shows_it() -> None:
    assert {bad.kind for bad in BAD} | RENDERED == set(rows())


@pytest.mark.parametrize(("place", "method"), list(enumerate(METHODS)))
def test_the_lines_that_are_shown_can_be_read(place: int, method: Kind, tmp_path: Path) -> None:
    (block,) = (block for block in blocks(DOCUMENT) if block.language == "json")
    line = block.text.splitlines()[place]
    assert json.loads(line)
    (tmp_path / "a.jsonl").write_text(line)
    assert len(read(tmp_path / "a.jsonl", method)) == 1
