"""The model card's tables: written from the figures into the marked places of its text.

<!-- figures: manners -->
(what stands here is replaced)
<!-- /figures -->
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import banking, objects, sentiment, simpler
from .styles import STYLES

PLACE = re.compile(r"(?P<open><!-- figures: (?P<name>[\w-]+) -->\n).*?(?P<close><!-- /figures -->)", re.DOTALL)
NOT_MEASURED = "Not measured yet.\n"
TASKS = (
    (sentiment.NAME, "macro-F1", "macro-F1 of three labels"),
    (banking.NAME, "accuracy", "accuracy, thirteen intents"),
    (simpler.NAME, "SARI", "SARI, 0 to 100"),
    (simpler.NAME, "shared words", "words in common with the editor's sentence, F1"),
    (objects.NAME, "right object", "share of answers that are an object with exactly the keys `answer` and `language`"),
)
WHO = ("", ", base", ", base told to", ", no model")  # as `held.compare` names them
READING = (
    ("facts", "value", "three sources, names never trained on: the fact"),
    ("facts", "sentence", "its whole sentence"),
    ("facts", "marker", "its marker"),
    ("facts", "not said", "no source has it: says so"),
    ("facts", "value without sources", "no sources: the fact all the same"),
    ("documents", "found, trained wording", "the demo documents, trained wordings: the search finds the sentence"),
    ("documents", "right, trained wording", "the base says it, with its marker"),
    ("documents", "found, other wording", "the demo documents, other wordings: the search finds the sentence"),
    ("documents", "right, other wording", "the base says it, with its marker"),
    ("natural", "sentence", "three sources of QAMR's test part: the whole sentence"),
    ("natural", "marker", "its marker"),
)
Figures = Mapping[str, Mapping[str, float]]


class CardPlaceUnknown(ValueError):
    """A card marks a place for figures that the recipe does not write."""


def write(figures: Figures, template: Path, card: Path) -> None:
    """Writes `card`, which may be `template` itself: its text, with the figures in their places."""
    text = filled(template.read_text(encoding="utf-8"), figures)
    new = card.with_name(f"{card.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(card)


def filled(card: str, figures: Figures) -> str:
    """The text with its tables made anew. Raises CardPlaceUnknown."""

    def place(match: re.Match[str]) -> str:
        if match["name"] not in TABLES:
            raise CardPlaceUnknown(f"the card marks a place {match['name']!r}; known: {', '.join(TABLES)}")
        return f"{match['open']}{TABLES[match['name']](figures)}{match['close']}"

    return PLACE.sub(place, card)


def manners(figures: Figures) -> str:
    """The base, and the adapters that speak in a manner."""
    names = [name for name in ("base", *STYLES) if name in figures]
    shares = ("exact", "shows", "shows without adapter")
    rows = [[_code(name), *(_share(figures[name].get(key)) for key in shares)] for name in names]
    return _table(("", "as written", "shows", "shows without it"), rows)


def tasks(figures: Figures) -> str:
    """The adapters that have a held-out part, beside the base on the same."""
    rows = [
        [_code(name), what, *(_score(figures[name].get(score + who)) for who in WHO)]
        for name, score, what in TASKS
        if score in figures.get(name, {})
    ]
    return _table(("", "on the held-out part", "with it", "base", "base, told to", "no model"), rows)


def reading(figures: Figures) -> str:
    """How the base reads its sources."""
    rows = [[what, _share(figures[group][key])] for group, key, what in READING if key in figures.get(group, {})]
    return _table(("", "right"), rows)


TABLES: dict[str, Callable[[Figures], str]] = {"manners": manners, "tasks": tasks, "reading": reading}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return NOT_MEASURED
    lines = [header, ["---"] * len(header), *rows]
    return "".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|\n" for line in lines).replace(
        " --- ", "---"
    )


def _code(name: str) -> str:
    return name if name == "base" else f"`{name}`"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _score(value: float | None) -> str:
    """Scores from 0 to 1 have two digits behind the point, those to 100 one."""
    return "" if value is None else f"{value:.2f}" if value <= 1 else f"{value:.1f}"
