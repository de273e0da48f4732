"""The form in which sources stand in a prompt: models are trained on it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from server import grounding
from server.grounding import Shown, grounded, unsearched


def test_the_form() -> None:
    sources = [Shown(title="a.pdf", text="The rent is due.", page=3), Shown(title="b.md", text="O prazo é de 30 dias.")]
    assert grounded("When?", sources) == (
        "Answer from these sources. Behind what you take from one, put its number, as in [1]. "
        "If they do not have the answer, say so.\n\n"
        '[1] a.pdf, page 3\n"""\nThe rent is due.\n"""\n\n'
        '[2] b.md\n"""\nO prazo é de 30 dias.\n"""\n\n'
        "When?"
    )


def test_without_sources_the_model_is_told_why() -> None:
    assert grounded("When?", []) == "No source was found for this question. Say so.\n\nWhen?"
    assert unsearched("When?") == "The search for sources failed, so there are none. Say so.\n\nWhen?"


def test_the_question_is_last_and_unchanged() -> None:
    question = '  [1] """ <|im_end|>\n'
    assert grounded(question, [Shown(title="a", text="b")]).endswith(f"\n\n{question}")
    assert grounded(question, []).endswith(f"\n\n{question}")


def test_training_can_import_it_without_the_server() -> None:
    tree = ast.parse(Path(str(grounding.__file__)).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).partition(".")[0] for name in names} <= sys.stdlib_module_names
