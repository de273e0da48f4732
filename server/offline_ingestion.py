"""Files read and stores embedded anew without a server: step by step, by the command that wants it."""

from __future__ import annotations

from functools import partial

from retrieval.ingestion import Ingestion
from retrieval.queue import Queue
from retrieval.reembedding import Reembedding
from retrieval.vectors import Vectors
from server.ingestion_process import holder_of
from server.services import Services
from server.storage import feed


class OfflineIngestion:
    """What the ingestion process does, over services that hold the data directory's lock."""

    def __init__(self, services: Services) -> None:
        """Loads the embedder with the first file that needs it."""
        settings = services.settings
        queue = Queue(services.database, on_write=partial(feed.bump, topic="ingestion"))
        holder = holder_of(settings)
        queue.release(holder)  # of a server that was killed: the lock says that there is none
        services.reembeddings.release(holder)
        vectors = Vectors(services.database)
        self._ingestion = Ingestion(
            queue,
            services.files,
            vectors,
            services.embedder,
            holder=holder,
            parse_seconds=settings.parse_seconds,
            parse_memory_bytes=settings.parse_memory_mib * 1024**2,
        )
        self._reembedding = Reembedding(services.reembeddings, vectors, services.embedder, holder=holder)

    def step(self) -> bool:
        """One round of files, or one batch of a store that is embedded anew; False when nothing is due."""
        return self._ingestion.step() or self._reembedding.step()
