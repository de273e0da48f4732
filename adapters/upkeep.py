"""Files and rows brought back together: what nobody needs is deleted, what is lost is said."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import Connection

from adapters import ledger
from adapters.ports import Store
from adapters.shelf import Shelf


def collect(database: Store, shelf: Shelf, in_use: Collection[str] = ()) -> list[str]:
    """Delete the files of every digest that no version has and that is not in use; returns those digests."""
    with database.read() as connection:
        kept = ledger.digests(connection).union(in_use)
    return delete_unclaimed(database, shelf, [digest for digest in shelf.digests() if digest not in kept])


def delete_unclaimed(
    database: Store,
    shelf: Shelf,
    digests: Collection[str],
    *,
    may_go: Callable[[Connection], bool] = lambda _: True,
) -> list[str]:
    """Delete the files of those of the digests that no version has; returns these.

    A transaction each, because other writers wait meanwhile, and a store that is away is found out before it.
    may_go: asked in each of them, when nobody can register; those for which it says no stay.
    """
    return [digest for digest in digests if _delete(database, shelf, digest, may_go)]


def _delete(database: Store, shelf: Shelf, digest: str, may_go: Callable[[Connection], bool]) -> bool:
    shelf.holds(digest)
    with database.write() as connection:
        ledger.lock(connection)
        # again: a registration may have taken it up
        if ledger.is_claimed(connection, digest) or not may_go(connection):
            return False
        shelf.remove(digest)
    return True


def mend(
    database: Store, shelf: Shelf, on_write: Callable[[Connection], None], *, staged_before: float | None = None
) -> None:
    """After any end of the last process: half-registered names go, versions without files say so, other files go.

    staged_before: what was begun later is being fetched by another process, which lives, and no files go; None knows no
    other.
    """
    shelf.sweep()
    with database.read() as connection:
        known = ledger.digests(connection)
    there = shelf.holding(known)  # of all at once, and before the transaction: the store may be far away
    with database.write() as connection:
        ledger.lock(connection)
        ledger.remove_staging(connection, staged_before)
        ledger.mark_missing(connection, lambda digest: digest in there or shelf.holds(digest))
        on_write(connection)
    if staged_before is None:
        collect(database, shelf)
