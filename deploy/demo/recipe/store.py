"""The demo documents in a vector store, read and searched by the server's own parts."""

from __future__ import annotations

from pathlib import Path

from retrieval.attachments import Attachments
from retrieval.embedding import Embedder
from retrieval.files import Files
from retrieval.ingestion import Ingestion
from retrieval.queue import Queue
from retrieval.search import Searcher, SearchOptions
from retrieval.stores import Stores
from retrieval.vectors import Vectors
from server.demo_documents import STORE, DemoDocuments
from server.grounding import Shown
from server.storage.blobs import LocalBlobs
from server.storage.database import Database

from .documents import FOLDER

MAX_FILE_BYTES = 1_000_000


class DocumentStore:
    """Lives in a folder of its own; `close` it before that goes away."""

    def __init__(self, folder: Path) -> None:
        self._database = Database(f"sqlite:///{folder / 'store.sqlite'}")
        self._database.migrate()
        files = Files(self._database, LocalBlobs(folder / "blobs"), max_bytes=MAX_FILE_BYTES)
        stores = Stores(self._database)
        DemoDocuments(files=files, stores=stores, attachments=Attachments(self._database)).install(FOLDER, ())
        self._embedder = Embedder()
        reading = Ingestion(Queue(self._database), files, Vectors(self._database), self._embedder, holder="recipe")
        while reading.step():
            pass
        self._id = stores.find(STORE)[0].id
        self._searcher = Searcher(
            self._database, folder, fingerprint=self._embedder.fingerprint, embedder_name=self._embedder.name
        )

    def sources(self, question: str, n: int) -> tuple[Shown, ...]:
        """The best `n` passages for a question, in the order in which the server shows them."""
        vector = self._embedder.embed_queries([question])[0]
        hits = self._searcher.search([self._id], question, vector, SearchOptions(max_num_results=n))
        passages = sorted((hit.passage for hit in hits), key=lambda passage: (passage.filename, passage.position))
        return tuple(Shown(title=passage.filename, text=passage.text) for passage in passages)

    def close(self) -> None:
        self._searcher.close()
        self._database.close()
