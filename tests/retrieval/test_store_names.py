from __future__ import annotations

import pytest
import sqlalchemy as sa

from retrieval.figures import count_store_files, count_stores
from retrieval.generations import SLICE
from retrieval.store_names import StoreNames
from retrieval.vector_store import FileCounts
from tests.retrieval.shelf import Shelf

DAY = 86_400


@pytest.fixture
def names(shelf: Shelf) -> StoreNames:
    return StoreNames(shelf.database, clock=shelf.clock)


def test_an_id_is_that_store_and_a_name_all_that_have_it(shelf: Shelf, names: StoreNames) -> None:
    first = shelf.stores.create("ana", name="docs")
    shelf.clock.now += 1
    second = shelf.stores.create("ben", name="docs")
    shelf.stores.create("ana")
    assert [(one.id, one.owner, one.name) for one in names.find("docs")] == [
        (first.id, "ana", "docs"),
        (second.id, "ben", "docs"),
    ]
    assert [one.id for one in names.find(second.id)] == [second.id]
    assert names.find("other") == names.find("") == []
    shelf.stores.delete(first.id)
    assert [one.id for one in names.find("docs")] == [second.id]
    assert names.find(first.id) == []


def test_it_says_what_the_table_of_stores_says(shelf: Shelf, names: StoreNames) -> None:
    for name in ("docs", "docs", "notes"):
        shelf.stores.create("ana", name=name, expires_days=1 if name == "docs" else None)
    for moment in (0, 2 * DAY):
        shelf.clock.now += moment
        for asked in ("docs", "notes", "none", ""):
            whole = [(one.id, one.owner, one.name, one.expired) for one in shelf.stores.find(asked)]
            assert [(one.id, one.owner, one.name, one.expired) for one in names.find(asked)] == whole


def test_an_expired_store_leaves_its_name_to_a_living_one(shelf: Shelf, names: StoreNames) -> None:
    old = shelf.stores.create("ana", name="docs", expires_days=1)
    shelf.clock.now += DAY + 1
    assert [(one.id, one.expired) for one in names.find("docs")] == [(old.id, True)]
    new = shelf.stores.create("ana", name="docs")
    assert [one.id for one in names.find("docs")] == [new.id]
    assert [one.id for one in names.find(old.id)] == [old.id]


def test_an_expired_store_does_not_leave_its_name_to_another_owner_s(shelf: Shelf, names: StoreNames) -> None:
    old = shelf.stores.create("ana", name="docs", expires_days=1)
    shelf.clock.now += DAY + 1
    theirs = shelf.stores.create("ben", name="docs")
    for table in (names, shelf.stores):
        assert [(one.id, one.expired) for one in table.find("docs")] == [(old.id, True), (theirs.id, False)]
    new = shelf.stores.create("ana", name="docs")
    for table in (names, shelf.stores):
        assert {one.id for one in table.find("docs")} == {theirs.id, new.id}


def test_a_lookup_is_one_statement_by_an_index_whatever_the_store_holds(shelf: Shelf, names: StoreNames) -> None:
    store = shelf.stores.create("ana", name="docs")
    for number in range(5):
        shelf.attachments.attach(store.id, shelf.upload(f"file {number}").id)
    said: list[str] = []
    sa.event.listen(shelf.database._engine, "before_cursor_execute", lambda _c, _k, what, *_: said.append(what))
    names.find(store.id)
    selects = [what for what in said if what.startswith("SELECT")]
    assert len(selects) == 1
    assert "vector_store_files" not in selects[0]


def test_several_lookups_are_one_statement_and_each_means_what_it_means_alone(shelf: Shelf, names: StoreNames) -> None:
    first = shelf.stores.create("ana", name="docs")
    shelf.clock.now += 1
    second = shelf.stores.create("ben", name="docs")
    third = shelf.stores.create("ben", name=first.id)  # as anybody may call a store
    shelf.stores.create("ana")
    asked = ["docs", first.id, second.id, third.id, "none", ""]
    alone = {one: names.find(one) for one in asked}
    said: list[str] = []
    sa.event.listen(shelf.database._engine, "before_cursor_execute", lambda _c, _k, what, *_: said.append(what))
    assert names.find_all(asked) == alone
    assert len([what for what in said if what.startswith("SELECT")]) == 1
    assert [store.id for store in alone["docs"]] == [first.id, second.id]
    assert [store.id for store in alone[first.id]] == [first.id]  # an id is never another's name
    assert alone["none"] == alone[""] == []
    assert names.find_all([]) == {}


def test_more_lookups_than_one_statement_takes(shelf: Shelf, names: StoreNames) -> None:
    store = shelf.stores.create("ana", name="docs")
    far = [store.id, *(f"none-{number}" for number in range(SLICE)), "docs"]  # in two statements
    found = names.find_all(far)
    assert [one.id for one in found["docs"]] == [one.id for one in found[store.id]] == [store.id]


def test_last_used_and_living(shelf: Shelf, names: StoreNames) -> None:
    stores = [shelf.stores.create("ana", expires_days=1 if number == 0 else None).id for number in range(4)]
    for moment, number in enumerate((2, 0, 3)):
        shelf.clock.now += 100 + moment
        shelf.stores.touch(stores[number])
    assert names.last_used(3) == [stores[3], stores[0], stores[2]]
    shelf.clock.now += 2 * DAY
    shelf.stores.expire_due()
    shelf.stores.delete(stores[3])
    assert names.last_used(1) == [stores[2]]
    assert names.living([*stores, "vs_none"]) == {stores[1], stores[2]}
    assert names.living([]) == set()


def test_figures(shelf: Shelf) -> None:
    assert (count_stores(shelf.database), count_store_files(shelf.database)) == (0, FileCounts())
    store = shelf.stores.create("ana")
    shelf.attached(store.id, ["one"])
    shelf.attachments.attach(store.id, shelf.upload("waits").id)
    assert count_stores(shelf.database) == 1
    assert count_store_files(shelf.database) == FileCounts(in_progress=1, completed=1)
    shelf.stores.delete(store.id)
    assert (count_stores(shelf.database), count_store_files(shelf.database)) == (0, FileCounts())
