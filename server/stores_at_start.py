"""What a start does for vector stores: nothing that it would wait for."""

from __future__ import annotations

import logging

from retrieval.attachments import Attachments
from retrieval.errors import RetrievalError, StoreNotFound
from retrieval.files import Files
from retrieval.stores import Stores
from server.blobs import open_blobs
from server.demo import begin_reading
from server.demo_documents import DemoDocuments
from server.services import Services
from server.settings import Settings
from server.storage.database import Database
from server.store_rights import check_assistants_store

logger = logging.getLogger(__name__)


def begin_reading_documents(settings: Settings, database: Database) -> None:
    """What the ingestion process, which starts beside this one, can do while the engine loads."""
    blobs = open_blobs(settings)
    documents = DemoDocuments(
        files=Files(database, blobs, max_bytes=settings.max_file_bytes),
        stores=Stores(database),
        attachments=Attachments(database),
    )
    begin_reading(documents, settings.data_dir)


def ask_for_reembedding(services: Services) -> None:
    """Have the vectors of other embedders made anew, in the background."""
    for store_id in services.reembeddings.needed(services.embedder.fingerprint):
        try:
            services.reembeddings.request(store_id, services.embedder.fingerprint)
        except StoreNotFound:  # deleted meanwhile
            continue
        logger.warning(
            "vector store %s has vectors of another embedder; they are made anew in the background", store_id
        )


def tell_of_missing_stores(services: Services) -> None:
    """An assistant from a file may be there before its stores, which are made by requests: no reason not to start."""
    for assistant in services.assistants.all():
        for store in assistant.vector_store_ids:
            try:
                check_assistants_store(store, services)
            except RetrievalError as error:
                logger.warning("assistant %r cannot be answered from its stores: %s", assistant.name, error)
