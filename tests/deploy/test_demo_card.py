"""The model card's tables are those of the figures."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "deploy" / "demo"
sys.path.append(str(DEMO))  # as `python deploy/demo/train.py` has it

pytest.importorskip("torch")
pytest.importorskip("peft")

from recipe import card  # noqa: E402

FIGURES = {
    "base": {"exact": 0.98},
    "shout": {"exact": 0.934, "shows": 1.0, "shows without adapter": 0.0},
    "banking": {"accuracy": 0.5, "accuracy, base": 0.0, "accuracy, base told to": 0.125, "accuracy, no model": 0.077},
    "simples": {"SARI": 40.25, "shared words": 0.625},
    "facts": {"value": 0.855},
}


def test_the_card_shows_the_figures_that_were_measured() -> None:
    text = (DEMO / "README.md").read_text(encoding="utf-8")
    figures = json.loads((DEMO / "figures.json").read_text(encoding="utf-8"))
    assert set(re.findall(r"<!-- figures: ([\w-]+) -->", text)) == card.TABLES.keys()
    assert card.filled(text, figures) == text, "figures.json has changed: card.write(...) writes the card anew"


def test_tables_are_written_into_their_places_and_nothing_else_changes() -> None:
    text = "Before.\n\n<!-- figures: tasks -->\nold\n\nolder\n<!-- /figures -->\n\nBetween | the | places.\n"
    filled = card.filled(text, FIGURES)
    assert filled == (
        "Before.\n\n<!-- figures: tasks -->\n"
        "| | on the held-out part | with it | base | base, told to | no model |\n"
        "|---|---|---|---|---|---|\n"
        "| `banking` | accuracy, thirteen intents | 0.50 | 0.00 | 0.12 | 0.08 |\n"
        "| `simples` | SARI, 0 to 100 | 40.2 | | | |\n"
        "| `simples` | words in common with the editor's sentence, F1 | 0.62 | | | |\n"
        "<!-- /figures -->\n\nBetween | the | places.\n"
    )
    assert card.filled(filled, FIGURES) == filled
    assert card.manners(FIGURES).splitlines()[2:] == ["| base | 98 % | | |", "| `shout` | 93 % | 100 % | 0 % |"]
    assert "| three sources, names never trained on: the fact | 86 % |" in card.reading(FIGURES)


def test_what_is_not_measured_is_said() -> None:
    text = "<!-- figures: tasks -->\n<!-- /figures -->\n"
    assert card.filled(text, {}) == "<!-- figures: tasks -->\nNot measured yet.\n<!-- /figures -->\n"


def test_a_place_that_nobody_writes_is_an_error() -> None:
    with pytest.raises(card.CardPlaceUnknown, match="'taks'; known: manners, tasks, reading"):
        card.filled("<!-- figures: taks -->\n<!-- /figures -->\n", FIGURES)


def test_a_card_may_be_written_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("Ação:\n<!-- figures: manners -->\n<!-- /figures -->\n", encoding="utf-8")
    card.write(FIGURES, path, path)
    assert "| `shout` | 93 % |" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]
