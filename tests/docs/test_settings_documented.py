"""Every setting has a row in both READMEs, with the default that the code has."""

from __future__ import annotations

import re

import pytest

from server.settings import CLIENT_NAMES, PREFIX, Settings, setting_names
from tests.docs.fences import ROOT

READMES = {"README.md": "the demo", "README.pt-BR.md": "a demo"}


def shown(name: str, demo: str) -> str:
    """A default as the tables write it."""
    default = Settings.model_fields[name].default
    if name == "model":
        return demo
    if default in (None, "", ()):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


@pytest.mark.parametrize("readme", READMES)
@pytest.mark.parametrize("name", Settings.model_fields)
def test_setting_has_its_row(name: str, readme: str) -> None:
    row = f"| `{PREFIX}{name.upper()}` | {shown(name, READMES[readme])} | "
    assert row in (ROOT / readme).read_text(), f"{readme} needs a row that begins: {row}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_english_row_says_what_help_says(name: str) -> None:
    assert f" | {Settings.model_fields[name].description} |\n" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    "path", [str(path.relative_to(ROOT)) for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])]
)
def test_no_other_setting_is_named(path: str) -> None:
    told = set(re.findall(r"MANYHATS_[A-Z_]*[A-Z]", (ROOT / path).read_text()))
    assert told <= {*setting_names(), *CLIENT_NAMES}
