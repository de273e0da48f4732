"""Chunks and windows on their way into the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, insert, select

from retrieval import tables
from retrieval.passage import Chunk
from retrieval.vectors import vector_ids


def add_chunks(
    connection: Connection, store_id: str, number: int, generation: int, chunks: Sequence[Chunk]
) -> list[int]:
    """A row for each chunk of an attachment; their ids, in the same order."""
    rows = [
        {
            "store_id": store_id,
            "number": number,
            "generation": generation,
            "position": position,
            "text": storable(chunk.text),
            "page": chunk.page,
            "heading": [storable(heading) for heading in chunk.heading],
            "start": chunk.start,
            "end": chunk.end,
            "language": chunk.language,
            "tokens": chunk.tokens,
        }
        for position, chunk in enumerate(chunks)
    ]
    if not rows:
        return []
    connection.execute(insert(tables.chunks), rows)
    columns = tables.chunks.c
    query = select(columns.id).where(columns.number == number).order_by(columns.position)
    return list(connection.execute(query).scalars())


def add_windows(
    connection: Connection,
    store_id: str,
    generation: int,
    digests: Mapping[int, Mapping[int, Sequence[str]]],
    fingerprint: str,
) -> int:
    """A row for each window of chunks, given by attachment, chunk and text; the bytes of their vectors together.

    Raises RetrievalError when a vector is not there.
    """
    every = [
        (number, chunk_id, digest)
        for number, by_chunk in digests.items()
        for chunk_id, of_chunk in by_chunk.items()
        for digest in of_chunk
    ]
    ids = vector_ids(connection, fingerprint, [digest for _, _, digest in every])
    rows = [
        {
            "chunk_id": chunk_id,
            "number": number,
            "store_id": store_id,
            "generation": generation,
            "vector_id": ids[digest][0],
            "fingerprint": fingerprint,
        }
        for number, chunk_id, digest in every
    ]
    if rows:
        connection.execute(insert(tables.windows), rows)
    return sum(ids[digest][1] for _, _, digest in every)


def storable(text: str) -> str:
    """The text as every database takes it, character for character: without NUL and halves of surrogate pairs."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
