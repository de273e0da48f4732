"""Bases without weights: the demo's tokenizer, with the chat templates of other families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.training.data.chat import Chat, chat_of
from adapters.training.data.lines import Line
from adapters.training.data.preference import Preference, preference_of
from adapters.training.data.rendering import Renderer
from tests.adapters.training.data import made_data as made

ROOT = Path(__file__).resolve().parents[4]
DEMO = ROOT / "deploy" / "demo" / "base"
TEMPLATES = ROOT / "tests" / "server" / "templates"
MakeBase = Callable[..., Path]


def chat_from(row: made.Row, line: int = 1) -> Chat:
    return chat_of(_line(row, line))


def preference_from(row: made.Row) -> Preference:
    return preference_of(_line(row, 1))


def _line(row: made.Row, number: int) -> Line:
    raw = made.jsonl([row]).rstrip()
    return Line(number, 0, len(raw), raw)


def told(renderer: Renderer, tokens: list[int]) -> str:
    """Tokens as a string, control tokens included."""
    return str(renderer._template._tokenizer.decode(tokens))


@pytest.fixture(scope="session")
def demo() -> Renderer:
    return Renderer(DEMO, context_tokens=2048)


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> MakeBase:
    """A folder with the demo's vocabulary, control tokens of a family, and its template or that one's name."""
    from transformers import AutoTokenizer

    def made_base(template: str, *, special: tuple[str, ...] = (), **tokens: Any) -> Path:
        folder = tmp_path_factory.mktemp("base")
        tokenizer = AutoTokenizer.from_pretrained(DEMO)
        tokenizer.add_special_tokens({"additional_special_tokens": list(special), **tokens})
        file = TEMPLATES / f"{template}.jinja"
        tokenizer.chat_template = file.read_text() if "{" not in template else template
        tokenizer.save_pretrained(folder)
        return folder

    return made_base
