"""What is counted over all stores, for metrics."""

from __future__ import annotations

from sqlalchemy import func, select

from retrieval import tables
from retrieval.ports import Store
from retrieval.vector_store import FileCounts


def count_stores(database: Store) -> int:
    """Vector stores whose time is not over."""
    stores = tables.stores.c
    query = select(func.count()).select_from(tables.stores).where(~stores.deleted, ~stores.expired)
    with database.read() as connection:
        return int(connection.execute(query).scalar_one())


def count_store_files(database: Store) -> FileCounts:
    """Files in stores by status; read from an index alone."""
    status = tables.attachments.c.status
    with database.read() as connection:
        return FileCounts(
            **{row[0]: row[1] for row in connection.execute(select(status, func.count()).group_by(status))}
        )
