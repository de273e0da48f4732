"""Windows that a store's present embedder has replaced: counted out of what its files use, and deleted.

In small transactions, so that writers need not wait; a killed process leaves the rest to the next upkeep.
"""

from __future__ import annotations

from sqlalchemy import Connection, LargeBinary, cast, delete, func, select, update

from retrieval import tables
from retrieval.ports import Store

CHUNKS = 500  # whose windows are deleted in one transaction
ATTACHMENTS = 50  # recounted in one transaction

_windows = tables.windows.c
_stores = tables.stores.c
_attachments = tables.attachments.c


def stores_with_superseded(database: Store) -> list[str]:
    """Stores with vectors of several embedders, that none is being embedded into."""
    asked = select(tables.reembeddings.c.store_id).where(tables.reembeddings.c.store_id == _stores.id).exists()
    others = [
        select(_windows.id).where(_windows.store_id == _stores.id, other).exists()
        for other in (_windows.fingerprint < _stores.fingerprint, _windows.fingerprint > _stores.fingerprint)
    ]
    with database.read() as connection:
        return list(connection.execute(select(_stores.id).where(~asked, others[0] | others[1])).scalars())


def clear_superseded(database: Store, store_id: str) -> int:
    """Delete the windows of other embedders, of chunks that have the store's own; how many chunks had such."""
    _recount(database, store_id)
    with database.read() as connection:
        query = select(_windows.fingerprint).where(_windows.store_id == store_id).distinct()
        fingerprints = list(connection.execute(query).scalars())
    cleared = 0
    for fingerprint in fingerprints:
        while n_chunks := _clear_some(database, store_id, fingerprint):
            cleared += n_chunks
    return cleared


def _clear_some(database: Store, store_id: str, fingerprint: str) -> int:
    with database.write() as connection:
        present = _present(connection, store_id)
        if present in (None, fingerprint):
            return 0
        own = tables.windows.alias()
        has_own = select(own.c.id).where(own.c.chunk_id == _windows.chunk_id, own.c.fingerprint == present).exists()
        old = (_windows.store_id == store_id, _windows.fingerprint == fingerprint)
        # Of a chunk all windows or none, because what is left counts as embedded by that embedder.
        some = list(
            connection.execute(select(_windows.chunk_id).where(*old, has_own).distinct().limit(CHUNKS)).scalars()
        )
        connection.execute(delete(tables.windows).where(_windows.chunk_id.in_(some), *old))
    return len(some)


def _present(connection: Connection, store_id: str) -> str | None:
    """The store's embedder, kept until the transaction ends; None while the store is being embedded anew, too."""
    query = select(_stores.fingerprint).where(_stores.id == store_id, ~_stores.deleted).with_for_update()
    asked = select(tables.reembeddings.c.store_id).where(tables.reembeddings.c.store_id == store_id)
    fingerprint = connection.execute(query).scalar()
    return None if connection.execute(asked).first() else fingerprint


def _recount(database: Store, store_id: str) -> None:
    """The bytes that each file uses: its chunks' texts and the vectors of the store's embedder."""
    last = 0
    while True:
        with database.write() as connection:
            present = _present(connection, store_id)
            query = select(_attachments.number).where(_attachments.store_id == store_id, _attachments.number > last)
            numbers = list(connection.execute(query.order_by(_attachments.number).limit(ATTACHMENTS)).scalars())
            if present is None or not numbers:
                return
            for number in numbers:
                used = _used_bytes(connection, number, present)
                connection.execute(
                    update(tables.attachments).where(_attachments.number == number).values(usage_bytes=used)
                )
        last = numbers[-1]


def _used_bytes(connection: Connection, number: int, fingerprint: str) -> int:
    chunks, vectors = tables.chunks.c, tables.vectors.c
    size = func.length(cast(chunks.text, LargeBinary))
    if connection.dialect.name == "postgresql":
        size = func.octet_length(chunks.text)
    texts = select(func.coalesce(func.sum(size), 0)).where(chunks.number == number)
    embedded = select(func.coalesce(func.sum(func.length(vectors.vector)), 0))
    embedded = embedded.select_from(tables.chunks.join(tables.windows).join(tables.vectors))
    embedded = embedded.where(chunks.number == number, _windows.fingerprint == fingerprint)
    return int(connection.execute(texts).scalar_one()) + int(connection.execute(embedded).scalar_one())
