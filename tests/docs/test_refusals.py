"""Every kind of refusal that the code knows has its row, and no row is left of one that is gone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.docs.fences import ROOT

REFUSALS = {"AdapterRefused", "SourceRefused"}


def kinds() -> Iterator[str]:
    """The first argument of each refusal; where that is a variable, what is assigned to it as a literal."""
    for path in (ROOT / "adapters").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in REFUSALS and node.args:
                    yield from _texts(node.args[0], function)


def _texts(value: ast.expr, function: ast.FunctionDef) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from _texts(value.body, function)
            yield from _texts(value.orelse, function)
        case ast.Name(id=name):
            for node in ast.walk(function):
                match node:  # kind, what = "smaller_base", "a smaller base"
                    case ast.Assign([ast.Tuple(elts=[ast.Name(id=first), *_])], ast.Tuple(elts=[text, *_])):
                        yield from _texts(text, function) if first == name else ()
        case _:
            raise AssertionError(f"a kind that cannot be read from the code: {ast.unparse(value)}")


def test_rows_are_the_kinds() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "refusals.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == set(kinds())
