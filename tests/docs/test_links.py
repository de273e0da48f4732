"""Relative links of the documentation lead somewhere, also to the heading that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.fences import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("README.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchor(heading: str) -> str:
    """The fragment that forges give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if "://" in link:
            continue
        place, _, fragment = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        assert target.exists(), f"{document.name} links to {link}"
        if fragment:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{document.name} links to {link}"


def test_files_named_in_contributing_exist() -> None:
    folders = "server|adapters|retrieval|bench|tests|docs|deploy"
    named = re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_path_of_one_machine(document: Path) -> None:
    own = re.findall(r"(?<![\w.}:/])/(?:home|root|work|mnt|tmp|Users)\b\S*", document.read_text())
    assert not own, own
