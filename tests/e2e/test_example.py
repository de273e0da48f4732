"""The worked example in Portuguese: its commands, in its order, on the demo base, and what it says of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.docs.fences import ROOT, blocks, commands
from tests.e2e.pasting import make_desk, run

PAGE = ROOT / "docs" / "exemplo-assistente.pt-BR.md"
DEPARTMENTS = {"agendamento", "exames", "financeiro", "ouvidoria"}
CHANCE = 1 / len(DEPARTMENTS)


def files(address: str) -> set[str]:
    return {file["id"] for file in httpx2.get(f"{address}/v1/files").json()["data"]}


@pytest.fixture(scope="module")
def printed(house: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """What the page's commands print, by its sections. Uploaded files stay, as the API has it, and are removed here."""
    desk = make_desk(tmp_path_factory.mktemp("clone"))
    found: dict[str, list[str]] = {}
    before = files(house.address)
    for block in commands(PAGE):
        if block.reason is None:
            told = run(block, address=house.address, data_dir=house.data_dir, roots=house.roots, desk=desk)
            found.setdefault(block.section, []).append(told)
    yield found
    for file_id in files(house.address) - before:
        httpx2.delete(f"{house.address}/v1/files/{file_id}")


@pytest.fixture
def shown(server: str, request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """The same, once the server is there."""
    return dict(request.getfixturevalue("printed"))


def accuracies(table: str) -> dict[str, float]:
    """The column of the accuracy, as a share, by the row's name."""
    rows = [line.split() for line in table.splitlines() if "%" in line]
    return {row[0]: float(row[4].rstrip("%")) / 100 for row in rows}


def test_the_adapter_is_better_than_its_base_on_messages_it_has_not_learnt(shown: dict[str, list[str]]) -> None:
    (table,) = shown["Medir"]
    base, *versions = accuracies(table).items()
    assert base[0] == "demo"
    assert versions
    assert max(share for _, share in versions) >= 2 * CHANCE
    assert max(share for _, share in versions) > base[1]


def test_each_message_finds_the_document_that_answers_it(shown: dict[str, list[str]]) -> None:
    asked, without_search = shown["A assistente"][1:]
    assert re.findall(r"^fonte: (\S+)", asked, re.MULTILINE) == ["horarios.md", "agendamento.md", "exames.md"]
    departments = re.findall(r"^setor: (.*)$", asked, re.MULTILINE)
    assert len(departments) == 3
    assert all(departments)
    assert without_search.strip() in DEPARTMENTS


def test_a_second_training_adds_a_version(shown: dict[str, list[str]]) -> None:
    (told,) = shown["Melhorar e voltar atrás"]
    assert len(set(re.findall(r"triagem@[0-9a-f]{12}", told))) >= 2


def test_nothing_is_left(shown: dict[str, list[str]], http: Any) -> None:
    assert "removed aurora" in "".join(shown["Arrumar a casa"])
    assert "triagem" not in http.get("/v1/models").text


def test_the_example_in_the_page_is_a_line_of_the_file() -> None:
    (example,) = (block.text for block in blocks(PAGE) if block.language == "json")
    message = re.search(r'"user", "content": "([^"]+)"', example)
    assert message is not None
    assert message[1] in (ROOT / "docs" / "exemplo" / "triagem.jsonl").read_text()
