"""Which vector store a caller means by an id or a name, and whether it may read or search it.

What a caller may not see is not found. Anybody may give a store any name, so a name that somebody else wrote down, in
an assistant or in a key's rights, means an administrator's store wherever there is one: nobody else can put texts into
another's answers by calling a store like one of theirs. Whose store is meant does not change when it expires: what
others have called the same is not taken for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from retrieval.errors import StoreAmbiguous, StoreExpired, StoreNotFound
from retrieval.store_names import StoreName
from server.auth import LOCAL, may_see
from server.storage.assistant import Assistant
from server.storage.callers import Caller

if TYPE_CHECKING:
    from retrieval.vector_store import VectorStore
    from server.services import Services


def own_store(id_or_name: str, caller: Caller, services: Services) -> StoreName:
    """The store, where the caller may list, read and change it: its owner's and every administrator's.

    Raises StoreNotFound or StoreAmbiguous.
    """
    return _one(_own(services.store_names.find(id_or_name), caller, services), id_or_name)


def searchable_store(
    id_or_name: str, caller: Caller, services: Services, *, assistant: Assistant | None = None
) -> StoreName:
    """The store, where the caller may search it: one of the assistant's, its own, or one shared with it, in this order.

    assistant: one that the caller was allowed to name. Raises StoreNotFound or StoreAmbiguous.
    """
    return searchable_stores([id_or_name], caller, services, assistant=assistant)[0]


def searchable_stores(
    ids_or_names: Sequence[str], caller: Caller, services: Services, *, assistant: Assistant | None = None
) -> list[StoreName]:
    """Each of them as `searchable_store`; however many there are, the database is asked once."""
    theirs = () if assistant is None else assistant.vector_store_ids
    known = services.store_names.find_all((*ids_or_names, *theirs))
    given = {store.id for name in theirs for store in _assistants(name, known[name], services)}
    return [_searchable(one, known[one], caller, services, theirs=theirs, given=given) for one in ids_or_names]


def check_assistants_store(id_or_name: str, services: Services) -> None:
    """That an assistant can be answered from it: the store of that id, or an administrator's of that name.

    Raises StoreNotFound, StoreAmbiguous or StoreExpired.
    """
    there = services.store_names.find(id_or_name)
    found = _assistants(id_or_name, there, services)
    if there and not found:
        raise StoreNotFound(
            f"no administrator's vector store is called {id_or_name[:96]!r}; an assistant takes another's by its id"
        )
    if _one(found, id_or_name).expired:
        raise StoreExpired(f"vector store {id_or_name[:96]!r} has expired; make another from its files")


def visible_store(
    id_or_name: str, caller: Caller, services: Services, *, assistant: Assistant | None = None
) -> VectorStore:
    """The whole store, where the caller may search it; see `searchable_store`."""
    return services.stores.get(searchable_store(id_or_name, caller, services, assistant=assistant).id)


def _searchable(
    id_or_name: str,
    found: Sequence[StoreName],
    caller: Caller,
    services: Services,
    *,
    theirs: Sequence[str],
    given: Collection[str],
) -> StoreName:
    """Which of those that have the id or name the caller may search. theirs: as the assistant names its stores; given:
    the ids of those that its caller is answered from.
    """
    among = [store for store in found if store.id in given]
    if among and (id_or_name in theirs or len(among) == len(found)):
        return _one(among, id_or_name)
    return _one(_own(found, caller, services) or _shared(found, caller, services), id_or_name)


def _own(found: Sequence[StoreName], caller: Caller, services: Services) -> list[StoreName]:
    """An administrator sees all, and means its own by a name that others gave to theirs too, or an administrator's."""
    seen = [store for store in found if may_see(caller, store.owner)]
    own = [store for store in seen if store.owner == caller.owner]
    return own or _administrators(seen, services) or seen


def _shared(found: Sequence[StoreName], caller: Caller, services: Services) -> list[StoreName]:
    shared = [
        store
        for store in found
        if any(fnmatchcase(store.id, glob) or fnmatchcase(store.name, glob) for glob in caller.stores)
    ]
    return _administrators(shared, services) or shared


def _assistants(id_or_name: str, found: Sequence[StoreName], services: Services) -> Sequence[StoreName]:
    """What an id or name means that stands in an assistant."""
    return found if [store.id for store in found] == [id_or_name] else _administrators(found, services)


def _administrators(found: Sequence[StoreName], services: Services) -> list[StoreName]:
    """Those that administrators own; they act for each other, so that a living one stands for an expired one."""
    if not found:
        return []
    owners = {LOCAL.owner} | {key.caller.owner for key in services.keys.list() if key.caller.is_admin}
    theirs = [store for store in found if store.owner in owners]
    return [store for store in theirs if not store.expired] or theirs


def _one(stores: Sequence[StoreName], id_or_name: str) -> StoreName:
    if not stores:
        raise StoreNotFound(
            f"no vector store has the id or name {id_or_name[:96]!r}, or you may not use it; GET /v1/vector_stores "
            "lists yours"
        )
    if len(stores) > 1:
        listed = ", ".join(store.id for store in stores[:8])
        raise StoreAmbiguous(f"{len(stores)} vector stores are called {id_or_name[:96]!r}: {listed}; give an id")
    return stores[0]
