"""What requests cost the database and the bucket: counted here as `make bench-shared` prints it, with its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base_model import BaseModel
from bench import adapters
from bench.shared import statements
from bench.shared.places import Place, embedded, shared
from bench.shared.statements import Count, table
from retrieval.embedding import Embedder
from server.settings import DEMO_BASE
from tests.postgresql import why_missing


@pytest.fixture(params=["embedded", "shared"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "embedded":
        yield embedded()
        return
    if missing := why_missing():
        pytest.skip(missing)
    with shared(tmp_path, told=True) as place:
        yield place


async def test_what_requests_cost(
    place: Place, tmp_path: Path, embedder_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "WARM", 2)
    monkeypatch.setattr(statements, "COUNTED", 2)
    names = adapters.make_copies(statements.archives_needed(), tmp_path / "adapters")
    archives = [adapters.archive(tmp_path / "adapters" / name) for name in names]
    base = replace(BaseModel.read(DEMO_BASE, cache=tmp_path / "base"), name="demo")
    embedder = Embedder(cache=embedder_cache)
    found = await statements.count(place, tmp_path / "data", base=base, embedder=embedder, archives=archives)
    print(table([place], [found]))

    assert found["chat"] == found["chat by an adapter"] == Count()
    # which stores, twice whether their indexes are current, and the passages: however many stores, by id or by name
    searching = [kind for kind in found if kind.startswith(("search", "chat with ", "chat by an assistant "))]
    assert len(searching) == 6
    for kind in searching:
        assert found[kind].statements == 4, kind
    if place.s3_log is not None:  # a look whether it is there, the files, and the manifest; for an adapter two looks
        assert (found.pop("file uploaded").objects, found.pop("adapter uploaded").objects) == (3, 5)
    assert all(count.objects == 0 for count in found.values())
    exchanges = {kind: count.exchanges for kind, count in found.items()}
    if place.sql_log is None:
        assert set(exchanges.values()) == {0}
        return
    assert {exchanges[kind] for kind in searching} == {4}  # one for each statement: nothing before or after it
    assert exchanges["alias moved"] <= found["alias moved"].statements + 2  # and a transaction's two ends


def test_the_table_leaves_out_what_a_place_cannot_tell() -> None:
    places = [embedded(), Place(name="far", settings={})]
    here = {"chat": Count(), "search": Count(statements=4)}
    there = {"chat": Count(), "search": Count(statements=4, exchanges=12.5)}
    lines = table(places, [here, there]).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[3].count("|")
    assert "SQLite, folder: sent to the database" not in lines[0]
    assert lines[0].endswith("| far: statements | far: sent to the database |")
    assert lines[2:] == ["| chat | 0 | 0 | 0 |", "| search | 4 | 4 | 12.5 |"]
