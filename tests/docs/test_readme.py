"""Both READMEs tell the same, know every route and command, and say of each command that is not run why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from fastapi import APIRouter

from retrieval.search import RANKERS
from server.app import ROUTERS
from server.cli import app as command_line
from server.storage.assistant import AssistantFields
from server.storage.entries_file import read_entries
from server.storage.keys_file import read_keys_file
from tests.docs.fences import COMMANDS, ROOT, blocks, commands

ENGLISH, PORTUGUESE = READMES = (ROOT / "README.md", ROOT / "README.pt-BR.md")
NOT_RUN = 5  # make serve, remote sources, a hub's model, GPUs, Open WebUI: only what no test machine can do
N_LINES = 820  # depth belongs into docs/


def routes() -> Iterator[str]:
    """`METHOD /path` of every route, as the table has them."""
    for router in ROUTERS:
        assert isinstance(router, APIRouter)
        for route in router.routes:
            for method in sorted(route.methods - {"HEAD"}):  # type: ignore[attr-defined]  # all are APIRoutes
                yield f"{method} {route.path}".replace(":path}", "}")  # type: ignore[attr-defined]  # as above


def told_routes(page: Path) -> set[str]:
    return set(re.findall(r"`((?:GET|POST|DELETE) /[^`]*)`", page.read_text()))


def command_options() -> dict[str, set[str]]:
    """`manyhats keys create` and the like, with their options."""
    root = typer.main.get_command(command_line)
    found: dict[str, set[str]] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]  # the root is a group
        inner = getattr(command, "commands", {"": command})
        for last, one in inner.items():
            options = {option for parameter in one.params for option in (*parameter.opts, *parameter.secondary_opts)}
            found[f"manyhats {name} {last}".strip()] = options
    return found


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
@pytest.mark.parametrize("route", list(routes()))
def test_every_route_is_in_the_table(route: str, readme: Path) -> None:
    rows = [line for line in readme.read_text().splitlines() if line.startswith("| `")]
    assert any(f"`{route}`" in row for row in rows), f"{readme.name} has no row for {route}"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_row_is_a_route(readme: Path) -> None:
    assert told_routes(readme) == set(routes())


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("C*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda path: path.name
)
def test_no_other_route_is_told_elsewhere(page: Path) -> None:
    assert told_routes(page) <= set(routes())


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
@pytest.mark.parametrize("command", list(command_options()))
def test_every_command_has_a_row(command: str, readme: Path) -> None:
    rows = [line for line in readme.read_text().splitlines() if line.startswith("| `manyhats ")]
    assert any(re.search(rf"`{command}[` ]", row) for row in rows), f"{readme.name} has no row for {command}"


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_row_of_commands_names_what_there_is(readme: Path) -> None:
    known = command_options()
    for row in readme.read_text().splitlines():
        if not row.startswith("| `manyhats "):
            continue
        named = [next(one for one in known if told.startswith(one)) for told in re.findall(r"`(manyhats [^`]*)`", row)]
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", row))
        assert options <= set().union(*(known[one] for one in named)), row


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_ranker_and_what_its_score_means(readme: Path) -> None:
    assert re.findall(r"^\| `(\w+)` \| [^|]{20,} \|$", readme.read_text(), re.MULTILINE) == list(RANKERS)


def test_commands_that_are_not_run_say_why_and_are_few() -> None:
    reasons = [block.reason for block in commands(ENGLISH) if block.reason is not None]
    assert len(reasons) == NOT_RUN
    assert all(len(reason) > 10 for reason in reasons)
    comments = ENGLISH.read_text().count("<!-- not run:")
    assert comments == NOT_RUN, "a comment does not stand directly above its block"


def test_both_have_the_same_blocks_in_the_same_order() -> None:
    english, portuguese = ([(block.language, block.text) for block in blocks(path)] for path in READMES)
    assert portuguese == english


def test_both_leave_the_same_commands_unrun() -> None:
    english, portuguese = ([block.reason is None for block in commands(path)] for path in READMES)
    assert portuguese == english


def test_both_have_the_same_outline() -> None:
    english, portuguese = (re.findall(r"^(#+) ", _prose(path), re.MULTILINE) for path in READMES)
    assert portuguese == english


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_short_enough_to_be_read(readme: Path) -> None:
    assert len(readme.read_text().splitlines()) <= N_LINES


def test_yaml_examples_are_what_the_server_reads(tmp_path: Path) -> None:
    assistants, keys = (block.text for block in blocks(ENGLISH) if block.language == "yaml")
    (tmp_path / "assistants.yaml").write_text(assistants)
    (tmp_path / "keys.yaml").write_text(keys)
    assert read_entries(tmp_path / "assistants.yaml", AssistantFields)
    assert read_keys_file(tmp_path / "keys.yaml")


def test_languages_are_known() -> None:
    assert {block.language for block in blocks(ENGLISH)} <= {*COMMANDS, "text", "yaml"}


def _prose(path: Path) -> str:
    """The file without its blocks, in which a comment may look like a heading."""
    text = path.read_text()
    for block in blocks(path):
        text = text.replace(block.text, "")
    return text
