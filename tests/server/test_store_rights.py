"""Which store an id or name means for whom, and that nobody gets into another's answers by giving a store a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from retrieval.errors import StoreAmbiguous, StoreExpired, StoreNotFound
from retrieval.stores import Stores
from server.auth import LOCAL
from server.services import Services
from server.storage.assistant import Assistant
from server.storage.callers import Caller
from server.store_rights import (
    check_assistants_store,
    own_store,
    searchable_store,
    searchable_stores,
    visible_store,
)

Make = Callable[..., str]


@pytest.fixture
def make(services: Services) -> Make:
    """A store of somebody's, by its id."""

    def make(owner: str, name: str = "", **further: Any) -> str:
        return services.stores.create(owner, name=name, **further).id

    return make


def caller(services: Services, name: str, **rights: Any) -> Caller:
    return services.keys.create(name, **rights)[0]


def expire(services: Services) -> None:
    """End every store that was made with `expires_days`."""
    Stores(services.database, clock=lambda: 10_000_000_000.0).expire_due()


def assistant_of(*stores: str) -> Assistant:
    return Assistant(
        id="asst_1",
        name="guide",
        model="demo",
        created_at=0.0,
        tool_resources={"file_search": {"vector_store_ids": list(stores)}},
    )


def test_an_owner_s_name_means_its_own(services: Services, make: Make) -> None:
    ana, ben = caller(services, "ana"), caller(services, "ben")
    hers, his = make("ana", "handbook"), make("ben", "handbook")
    for one, store in ((ana, hers), (ben, his)):
        assert own_store("handbook", one, services).id == store
        assert searchable_store("handbook", one, services).id == store
        assert own_store(store, one, services).id == store
    for lookup in (own_store, searchable_store):
        with pytest.raises(StoreNotFound):
            lookup(his, ana, services)


def test_an_administrator_s_name_means_its_own_and_then_anybody_s(services: Services, make: Make) -> None:
    root = caller(services, "root", role="admin")
    theirs = make("ana", "handbook")
    assert own_store("handbook", root, services).id == theirs
    second = make("ben", "handbook")
    with pytest.raises(StoreAmbiguous, match=second):
        own_store("handbook", root, services)
    mine = make("root", "handbook")
    assert own_store("handbook", root, services).id == mine
    assert own_store(second, root, services).id == second


def test_an_ambiguous_name_lists_only_what_its_owner_may_see(services: Services, make: Make) -> None:
    ana = caller(services, "ana")
    mine = [make("ana", "twin"), make("ana", "twin")]
    foreign = make("ben", "twin")
    with pytest.raises(StoreAmbiguous) as caught:
        own_store("twin", ana, services)
    assert all(store in str(caught.value) for store in mine)
    assert foreign not in str(caught.value)


@pytest.mark.parametrize("glob", ["hand*", "handbook", "*", "{id}"])
def test_a_shared_store_is_searchable_only(services: Services, make: Make, glob: str) -> None:
    store = make("ana", "handbook")
    ben = caller(services, "ben", stores=[glob.format(id=store)])
    assert searchable_store("handbook", ben, services).id == store
    assert searchable_store(store, ben, services).id == store
    with pytest.raises(StoreNotFound):
        own_store(store, ben, services)
    with pytest.raises(StoreNotFound):
        searchable_store(store, caller(services, "eve", stores=["other"]), services)


@pytest.mark.parametrize("shared", ["handbook", "*"])
def test_a_shared_name_cannot_be_taken_over(services: Services, make: Make, shared: str) -> None:
    caller(services, "root", role="admin")
    ben = caller(services, "ben", stores=[shared])
    trap = make("eve", "handbook")
    real = make("root", "handbook")
    assert searchable_store("handbook", ben, services).id == real
    services.stores.delete(real)
    assert searchable_store("handbook", ben, services).id == trap  # its key does say: anybody's of that name


def test_an_assistant_s_stores_are_searched_through_it_alone(services: Services, make: Make) -> None:
    ben = caller(services, "ben")
    by_name, by_id, other = make(LOCAL.owner, "laws"), make("ana", "notes"), make("ana", "diary")
    guide = assistant_of("laws", by_id)
    for asked, store in (("laws", by_name), (by_name, by_name), (by_id, by_id), ("notes", by_id)):
        assert searchable_store(asked, ben, services, assistant=guide).id == store
        with pytest.raises(StoreNotFound):
            searchable_store(asked, ben, services)
    with pytest.raises(StoreNotFound):
        searchable_store(other, ben, services, assistant=guide)
    assert visible_store("laws", ben, services, assistant=guide).name == "laws"


def test_several_stores_are_looked_up_in_one_statement_and_each_as_alone(services: Services, make: Make) -> None:
    ben = caller(services, "ben", stores=["shared"])
    laws, notes, own, shared = (
        make(LOCAL.owner, "laws"),
        make("ana", "notes"),
        make("ben", "own"),
        make("ana", "shared"),
    )
    guide = assistant_of("laws", notes)
    asked = ["own", "laws", "notes", shared, own, "shared"]
    alone = [searchable_store(one, ben, services, assistant=guide).id for one in asked]
    said: list[str] = []
    sa.event.listen(services.database._engine, "before_cursor_execute", lambda _c, _k, what, *_: said.append(what))
    assert [store.id for store in searchable_stores(asked, ben, services, assistant=guide)] == alone
    assert alone == [own, laws, notes, shared, own, shared]
    assert len([what for what in said if what.startswith("SELECT")]) == 1
    with pytest.raises(StoreNotFound, match="'diary'"):  # one that may not be searched is enough
        searchable_stores([*asked, "diary"], ben, services, assistant=guide)


def test_an_assistant_s_name_is_never_a_stranger_s_store(services: Services, make: Make) -> None:
    ben = caller(services, "ben")
    guide = assistant_of("laws")
    make("eve", "laws")
    with pytest.raises(StoreNotFound):
        searchable_store("laws", ben, services, assistant=guide)
    with pytest.raises(StoreNotFound, match="administrator"):
        check_assistants_store("laws", services)
    his = make("ben", "laws")
    assert searchable_store("laws", ben, services, assistant=guide).id == his  # his own, as without the assistant
    real = make(LOCAL.owner, "laws")
    assert searchable_store("laws", ben, services, assistant=guide).id == real
    check_assistants_store("laws", services)


def test_one_s_own_store_can_be_asked_through_an_assistant(services: Services, make: Make) -> None:
    ben = caller(services, "ben")
    mine = make("ben", "mine")
    make(LOCAL.owner, "laws")
    assert searchable_store("mine", ben, services, assistant=assistant_of("laws")).id == mine


def test_an_assistant_s_store_must_be_there(services: Services, make: Make) -> None:
    with pytest.raises(StoreNotFound, match="'none'"):
        check_assistants_store("none", services)
    ended = make(LOCAL.owner, "old", expires_days=1)
    expire(services)
    with pytest.raises(StoreExpired):
        check_assistants_store(ended, services)
    twins = [make(LOCAL.owner, "twin"), make(LOCAL.owner, "twin")]
    with pytest.raises(StoreAmbiguous, match=twins[0]):
        check_assistants_store("twin", services)


def test_an_expired_store_gives_its_name_to_a_living_one(services: Services, make: Make) -> None:
    make("ana", "handbook", expires_days=1)
    expire(services)
    living = make("ana", "handbook")
    assert own_store("handbook", caller(services, "ana"), services).id == living


@pytest.mark.parametrize("shared", ["handbook", "*"])
def test_an_expired_store_s_name_is_not_a_stranger_s(services: Services, make: Make, shared: str) -> None:
    root, second = caller(services, "root", role="admin"), caller(services, "second", role="admin")
    ben = caller(services, "ben", stores=[shared])
    real = make("root", "handbook", expires_days=1)
    make("eve", "handbook")
    expire(services)
    guide = assistant_of("handbook")
    assert searchable_store("handbook", ben, services) == searchable_store("handbook", ben, services, assistant=guide)
    assert searchable_store("handbook", ben, services).id == real
    for one in (root, second):  # else what one of them brings in by name is put where a stranger reads it
        assert own_store("handbook", one, services).id == real
    with pytest.raises(StoreExpired):
        check_assistants_store("handbook", services)
    new = make("second", "handbook")
    for one in (ben, second):
        assert searchable_store("handbook", one, services).id == new
    assert own_store("handbook", root, services).id == real  # its own, before another administrator's
    check_assistants_store("handbook", services)


def test_an_own_expired_store_comes_before_a_shared_one(services: Services, make: Make) -> None:
    ben = caller(services, "ben", stores=["*"])
    mine = make("ben", "notes", expires_days=1)
    make("eve", "notes")
    expire(services)
    assert searchable_store("notes", ben, services).id == mine


def test_strangers_stores_of_one_name_stay_several_when_one_expires(services: Services, make: Make) -> None:
    ben = caller(services, "ben", stores=["notes"])
    root = caller(services, "root", role="admin")
    make("ana", "notes", expires_days=1)
    make("eve", "notes")
    expire(services)
    with pytest.raises(StoreAmbiguous):
        searchable_store("notes", ben, services)
    with pytest.raises(StoreAmbiguous):
        own_store("notes", root, services)


def test_an_administrator_s_name_means_another_administrator_s_before_a_stranger_s(
    services: Services, make: Make
) -> None:
    root = caller(services, "root", role="admin")
    make("eve", "handbook")
    real = make(LOCAL.owner, "handbook")
    assert own_store("handbook", root, services).id == searchable_store("handbook", root, services).id == real
